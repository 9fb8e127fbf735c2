#!/usr/bin/env python3
"""Small checkpoints of random weights for checks in other programs: they load in seconds and exercise what a family has of its own.

    tiny_models.py FOLDER [NAME...]        default: all; prints the folders written

  llama       hidden 256, 2 blocks, 4 heads over 2, head size 64, ffn 512, vocabulary 512, untied head
  mistral     the same with a sliding window of 16 positions
  qwen2       the same with biases on q, k and v, tied head
  qwen3       the same with norms on q and k and a head size of 32 that is not hidden / heads, untied head
  opt         hidden 256, 2 blocks, 4 heads, ffn 512: learned positions, LayerNorm, ReLU, biases everywhere, tied head

Weights are binary16 numbers spread so that logits have a root mean square of about one. FOLDER/tokens.safetensors holds the ids "tokens" [1, 64].
"""
import argparse
import json
import os

import numpy as np
from safetensors.numpy import save_file

HIDDEN, FFN, BLOCKS, HEADS, KV_HEADS, VOCABULARY = 256, 512, 2, 4, 2, 512
MODELS = {
    "llama": {"architecture": "LlamaForCausalLM", "head_dim": 64, "tied": False, "bias": False, "qk_norm": False},
    "qwen2": {"architecture": "Qwen2ForCausalLM", "head_dim": 64, "tied": True, "bias": True, "qk_norm": False},
    "mistral": {"architecture": "MistralForCausalLM", "head_dim": 64, "tied": False, "bias": False, "qk_norm": False, "window": 16},
    "qwen3": {"architecture": "Qwen3ForCausalLM", "head_dim": 32, "tied": False, "bias": False, "qk_norm": True},
}


def symbols():
    """The alphabet of byte-level tokenizers, byte by byte."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    others = [b for b in range(256) if b not in plain]
    codes = {b: b for b in plain} | {b: 256 + i for i, b in enumerate(others)}
    return [chr(codes[b]) for b in range(256)]


def tokenizer():
    vocabulary = {s: i for i, s in enumerate(symbols())}
    merges = []
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    for a in letters:  # pairs of letters fill the vocabulary
        for b in letters:
            if len(vocabulary) < VOCABULARY - 2:
                merges.append(f"{a} {b}")
                vocabulary[a + b] = len(vocabulary)
    added = []
    for word in ("<s>", "</s>"):
        added.append({"id": len(vocabulary), "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True})
        vocabulary[word] = len(vocabulary)
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": merges}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": level,
            "post_processor": None, "decoder": level, "model": model}


def normal_into(tensors, rng):
    def normal(key, shape, spread, center=0.0):
        tensors[key] = (center + spread * rng.standard_normal(shape)).astype(np.float16)

    return normal


def opt():
    """Tensors and config.json of an OPT, by transformers' names."""
    tensors = {}
    normal = normal_into(tensors, np.random.default_rng(7))
    positions = 2048

    def norm(name):
        normal(name + ".weight", (HIDDEN,), 0.1, 1.0)
        normal(name + ".bias", (HIDDEN,), 0.1)

    normal("model.decoder.embed_tokens.weight", (VOCABULARY, HIDDEN), 1.0 / 16)
    normal("model.decoder.embed_positions.weight", (positions + 2, HIDDEN), 1.0 / 16)
    norm("model.decoder.final_layer_norm")
    for i in range(BLOCKS):
        prefix = f"model.decoder.layers.{i}."
        norm(prefix + "self_attn_layer_norm")
        norm(prefix + "final_layer_norm")
        for linear, shape in ((("self_attn.q_proj", (HIDDEN, HIDDEN)), ("self_attn.k_proj", (HIDDEN, HIDDEN)), ("self_attn.v_proj", (HIDDEN, HIDDEN)),
                               ("self_attn.out_proj", (HIDDEN, HIDDEN)), ("fc1", (FFN, HIDDEN)), ("fc2", (HIDDEN, FFN)))):
            normal(prefix + linear + ".weight", shape, 1.0 / shape[1] ** 0.5)
            normal(prefix + linear + ".bias", (shape[0],), 0.1)
    config = {"architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": HIDDEN, "ffn_dim": FFN, "num_hidden_layers": BLOCKS,
              "num_attention_heads": HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": positions, "word_embed_proj_dim": HIDDEN,
              "activation_function": "relu", "do_layer_norm_before": True, "enable_bias": True, "dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0,
              "tie_word_embeddings": True, "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1, "pad_token_id": 1, "torch_dtype": "float16"}
    return tensors, config


def llama_like(name):
    """The same of the other families."""
    kind = MODELS[name]
    rng = np.random.default_rng(7)
    head_dim = kind["head_dim"]
    tensors = {}
    normal = normal_into(tensors, rng)
    normal("model.embed_tokens.weight", (VOCABULARY, HIDDEN), 1.0)
    normal("model.norm.weight", (HIDDEN,), 0.1, 1.0)
    if kind["tied"]:
        tensors["model.embed_tokens.weight"] = (tensors["model.embed_tokens.weight"] / 16).astype(np.float16)
    else:
        normal("lm_head.weight", (VOCABULARY, HIDDEN), 1.0 / HIDDEN**0.5)
    for i in range(BLOCKS):
        prefix = f"model.layers.{i}."
        shapes = {"self_attn.q_proj": (HEADS * head_dim, HIDDEN), "self_attn.k_proj": (KV_HEADS * head_dim, HIDDEN),
                  "self_attn.v_proj": (KV_HEADS * head_dim, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * head_dim),
                  "mlp.gate_proj": (FFN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN), "mlp.down_proj": (HIDDEN, FFN)}
        for linear, shape in shapes.items():
            normal(prefix + linear + ".weight", shape, 1.0 / shape[1] ** 0.5)
        if kind["bias"]:
            for linear in ("q", "k", "v"):
                normal(f"{prefix}self_attn.{linear}_proj.bias", (shapes[f"self_attn.{linear}_proj"][0],), 0.1)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            normal(f"{prefix}{norm}.weight", (HIDDEN,), 0.1, 1.0)
        if kind["qk_norm"]:
            for norm in ("q_norm", "k_norm"):
                normal(f"{prefix}self_attn.{norm}.weight", (head_dim,), 0.1, 1.0)
    config = {"architectures": [kind["architecture"]], "model_type": name, "hidden_size": HIDDEN, "intermediate_size": FFN,
              "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": head_dim,
              "vocab_size": VOCABULARY, "max_position_embeddings": 2048, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu",
              "tie_word_embeddings": kind["tied"], "attention_bias": False, "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1, "pad_token_id": VOCABULARY - 1,
              "torch_dtype": "float16"}
    if "window" in kind:
        config["sliding_window"] = kind["window"]
    return tensors, config


def write(folder, name):
    tensors, config = opt() if name == "opt" else llama_like(name)
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    for file, value in (("config.json", config), ("tokenizer.json", tokenizer()),
                        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"})):
        with open(os.path.join(folder, file), "w") as out:
            json.dump(value, out, indent=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*", choices=[[], *MODELS, "opt"])
    args = parser.parse_args()
    for name in args.names or [*MODELS, "opt"]:
        write(os.path.join(args.folder, name), name)
        print(os.path.join(args.folder, name))
    ids = np.random.default_rng(3).integers(0, 256, (1, 64), dtype=np.int32)
    save_file({"tokens": ids}, os.path.join(args.folder, "tokens.safetensors"))


if __name__ == "__main__":
    main()
