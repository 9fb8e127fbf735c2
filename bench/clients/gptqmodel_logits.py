"""The logits of a GPTQ v2 directory in GPTQModel (fp16, CPU) beside those of an independent dequantization in fp32.

Called by gptqmodel.sh: gptqmodel_logits.py DIR TOKENS.safetensors:NAME COUNT
"""

import json
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from gptqmodel import BACKEND, GPTQModel  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

LARGEST_DIFFERENCE, LARGEST_KL = 0.2, 1e-4


def codes_of(words: np.ndarray, count: int, bits: int) -> np.ndarray:
    """words [..., W] uint32, a dense little-endian bit stream -> [..., count] codes."""
    stream = (words[..., None] >> np.arange(32, dtype=np.uint32)) & 1
    stream = stream.reshape(*words.shape[:-1], -1)[..., : count * bits].reshape(*words.shape[:-1], count, bits)
    return (stream << np.arange(bits)).sum(-1)


def dequantized(directory: str, bits: int) -> dict:
    """All tensors as f32 torch tensors; packed linears as [N, K] weights."""
    tensors = {}
    for name in sorted(os.listdir(directory)):
        if name.endswith(".safetensors"):
            tensors.update(load_file(os.path.join(directory, name)))
    state = {}
    for name, value in tensors.items():
        if name.endswith(".qweight"):
            base = name[: -len(".qweight")]
            k, n = value.shape[0] * 32 // bits, value.shape[1]
            codes = codes_of(np.ascontiguousarray(value.T).view(np.uint32), k, bits)  # [N, K]
            scales = tensors[base + ".scales"].astype(np.float32)  # [groups, N]
            zeros = codes_of(tensors[base + ".qzeros"].view(np.uint32), n, bits)  # [groups, N]
            grouped = codes.reshape(n, scales.shape[0], -1) - zeros.T[:, :, None]
            weight = (grouped * scales.T[:, :, None]).reshape(n, k)
            state[base + ".weight"] = torch.from_numpy(weight.astype(np.float32))
        elif not name.endswith((".qzeros", ".scales", ".g_idx")):
            state[name] = torch.from_numpy(value.astype(np.float32))
    return state


def reference_logits(directory: str, ids: torch.Tensor) -> torch.Tensor:
    config = AutoConfig.from_pretrained(directory)
    bits = config.quantization_config["bits"]
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    report = model.load_state_dict(dequantized(directory, bits), strict=False)
    lost = [name for name in report.missing_keys if "lm_head" not in name] + report.unexpected_keys
    if lost:
        sys.exit(f"error: tensors that do not match the model: {lost}")
    model.tie_weights()
    return model(ids[None]).logits[0].float()


def main() -> None:
    directory, tokens, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    path, name = tokens.rsplit(":", 1)
    ids = torch.from_numpy(load_file(path)[name].reshape(-1)[:count].astype(np.int64))
    with torch.inference_mode():
        reference = reference_logits(directory, ids)
        client = GPTQModel.load(directory, device="cpu", backend=BACKEND.GPTQ_TORCH, dtype=torch.float16)
        logits = getattr(client, "model", client)(ids[None]).logits[0].float()
    log_p, log_q = reference.log_softmax(-1), logits.log_softmax(-1)
    difference = (reference - logits).abs().max().item()
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()
    agreement = (reference.argmax(-1) == logits.argmax(-1)).double().mean().item()
    nll = [-x[:-1].gather(1, ids[1:, None]).mean().item() for x in (log_p, log_q)]
    print(f"GPTQModel fp16 against fp32: largest |logit difference| {difference:.3g}, mean KL {kl:.2g}, top-1 agreement {agreement:.2%}")
    print(f"mean NLL over {count - 1} tokens: independent fp32 {nll[0]:.6f}, GPTQModel {nll[1]:.6f}")
    sys.exit(0 if difference <= LARGEST_DIFFERENCE and kl <= LARGEST_KL else 1)


if __name__ == "__main__":
    main()
