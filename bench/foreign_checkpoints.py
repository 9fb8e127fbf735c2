#!/usr/bin/env python3
"""A small float model quantized by another program's own tool, for crumb to read. Run by that program's Python (scripts/clients.sh).

    foreign_checkpoints.py TOOL MODEL OUT --bits B --group G [--asym]

  TOOL   gptqmodel, gptqmodel-v2, auto-round, auto-round-gptq, auto-round-awq, mlx, compressed-tensors, compressed-tensors-w8a8
"""
import argparse
import os
import random


def texts():
    """Calibration of random letters: what is measured is the format, not the quality."""
    rng = random.Random(5)
    return ["".join(rng.choice("abcdefghij klmno pqrst uvwxyz") for _ in range(600)) for _ in range(16)]


def gptqmodel(args):
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # its default on two cores is 1, which it refuses itself
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    config = QuantizeConfig(bits=args.bits, group_size=args.group, sym=not args.asym, desc_act=False, format="gptq_v2" if args.tool.endswith("v2") else "gptq")
    model = GPTQModel.load(args.model, config, device="cpu")
    model.quantize(texts(), batch_size=1, backend=BACKEND.GPTQ_TORCH)
    model.save(args.out)


def auto_round(args):
    from auto_round import AutoRound
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    face = {"auto-round": "auto_round", "auto-round-gptq": "auto_gptq", "auto-round-awq": "auto_awq"}[args.tool]
    ids = [tokenizer(t, return_tensors="pt").input_ids[:, :64] for t in texts()]
    rounder = AutoRound(model, tokenizer, scheme={"bits": args.bits, "group_size": args.group, "sym": not args.asym, "data_type": "int"}, dataset=ids, iters=4, seqlen=64, nsamples=16,
                        batch_size=4, device_map="cpu")
    rounder.quantize_and_save(args.out, format=face)


def mlx(args):
    from mlx_lm import convert
    convert(args.model, mlx_path=args.out, quantize=True, q_bits=args.bits, q_group_size=args.group)


def largest_inputs(model, tokenizer):
    """The largest magnitude that the input of each linear has on the texts."""
    import torch
    found, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            hooks.append(module.register_forward_pre_hook(
                lambda _, inputs, name=name: found.__setitem__(name, max(found.get(name, 0.0), inputs[0].abs().max().item()))))
    with torch.no_grad():
        for text in texts():
            model(tokenizer(text, return_tensors="pt").input_ids[:, :64])
    for hook in hooks:
        hook.remove()
    return found


def compressed_tensors(args):
    import torch
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus, apply_quantization_config
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="float32")
    rounded_inputs = args.tool.endswith("w8a8")
    weights = {"num_bits": args.bits, "type": "int", "symmetric": not args.asym, "strategy": "group", "group_size": args.group}
    group = {"targets": ["Linear"], "weights": weights}
    if rounded_inputs:
        weights.update(strategy="channel", group_size=None)
        group["input_activations"] = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor", "dynamic": False}
    form = "int-quantized" if rounded_inputs else "pack-quantized"
    config = QuantizationConfig.model_validate({"format": form, "ignore": ["lm_head"], "config_groups": {"group_0": group}})
    largest = largest_inputs(model, AutoTokenizer.from_pretrained(args.model)) if rounded_inputs else {}
    apply_quantization_config(model, config)
    from compressed_tensors.quantization.utils import calculate_qparams
    for name, module in model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is None or scheme.weights is None:
            continue
        groups = module.weight.detach().unflatten(-1, (1, -1) if rounded_inputs else (-1, args.group))
        scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights)
        module.weight_scale.data = scale.to(module.weight_scale.dtype)
        if args.asym:
            module.weight_zero_point.data = zero.to(module.weight_zero_point.dtype)
        if rounded_inputs:
            module.input_scale.data = torch.tensor([largest[name] / 127], dtype=module.input_scale.dtype)
        module.quantization_status = QuantizationStatus.FROZEN
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format=form)
    compressor.compress_model(model)
    model.save_pretrained(args.out)
    compressor.update_config(args.out)
    AutoTokenizer.from_pretrained(args.model).save_pretrained(args.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--bits", type=int, required=True)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--asym", action="store_true")
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    name = args.tool.split("-")[0]
    {"gptqmodel": gptqmodel, "auto": auto_round, "mlx": mlx, "compressed": compressed_tensors}[name](args)


if __name__ == "__main__":
    main()
