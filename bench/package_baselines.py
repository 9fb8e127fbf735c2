#!/usr/bin/env python3
"""Quantizes a float model with another project's package on the rows of a token file. Run by that package's Python (scripts/clients.sh).

    package_baselines.py TOOL MODEL OUT --tokens FILE [--columns N] --bits B [--group G]

  TOOL   gptqmodel             GPTQ, asymmetric, everything else as it comes (activation order within what the groups allow)
         gptqmodel-act-order   with activation order and static groups, as our gptq recipes
         auto-round            SignRound at the budget of recipes/signround-wBg64.json: 100 iterations of 4 rows

bench/baselines.sh --packages runs it and measures the results with crumb eval beside our own recipes.
"""
import argparse
import os


def rows_of(args):
    from safetensors.torch import load_file
    rows = load_file(args.tokens)["train"].long()
    return rows[:, :args.columns] if args.columns else rows


def gptqmodel(args):
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # its default on two cores is 1, which it refuses itself
    import torch
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    config = QuantizeConfig(bits=args.bits, group_size=args.group, sym=False, format="gptq_v2",
                            **({"desc_act": True, "static_groups": True} if args.tool == "gptqmodel-act-order" else {}))
    model = GPTQModel.load(args.model, config, device="cpu")
    rows = [{"input_ids": row.tolist(), "attention_mask": torch.ones_like(row).tolist()} for row in rows_of(args)]
    model.quantize(rows, batch_size=1, backend=BACKEND.GPTQ_TORCH)
    model.save(args.out)


def auto_round(args):
    from auto_round import AutoRound
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    rows = rows_of(args)
    rounder = AutoRound(model, tokenizer, scheme={"bits": args.bits, "group_size": args.group, "sym": False, "data_type": "int"}, dataset=[row.unsqueeze(0) for row in rows],
                        iters=100, seqlen=rows.shape[1], nsamples=rows.shape[0], batch_size=4, device_map="cpu")
    rounder.quantize_and_save(args.out, format="auto_round")
    for nested in (e.path for e in os.scandir(args.out) if e.is_dir()):  # it makes a folder of the model's name inside
        for name in os.listdir(nested):
            os.replace(os.path.join(nested, name), os.path.join(args.out, name))
        os.rmdir(nested)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=("gptqmodel", "gptqmodel-act-order", "auto-round"))
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--columns", type=int, help="only the first tokens of every row")
    parser.add_argument("--bits", type=int, required=True)
    parser.add_argument("--group", type=int, default=64)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    (auto_round if args.tool == "auto-round" else gptqmodel)(args)


if __name__ == "__main__":
    main()
