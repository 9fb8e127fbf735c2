#!/usr/bin/env python3
"""A Hugging Face checkpoint of Llama-2-7B's shapes with few blocks and random bf16 weights, in shards, and a file of random token ids.

    random_llama.py FOLDER [--blocks 2] [--windows 8] [--tokens 512]

Writes FOLDER/model/ and FOLDER/tokens.safetensors. Weights have the spread that trained ones have (0.02); what is measured on them is time and
memory, never quality.
"""
import argparse
import array
import json
import os
import random
import struct

HIDDEN, INTERMEDIATE, HEADS, VOCABULARY = 4096, 11008, 32, 32000
TABLE = 1 << 20  # distinct random values; tensors are cut from it at random places


def bf16_bits(value):
    return struct.unpack("<I", struct.pack("<f", value))[0] >> 16


def save(path, tensors, contents):
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = {"BF16": 2, "I32": 4}[dtype]
        for dim in shape:
            size *= dim
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, info in header.items():
            contents(file, name, info["data_offsets"][1] - info["data_offsets"][0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    args = parser.parse_args()
    model = os.path.join(args.folder, "model")
    os.makedirs(model, exist_ok=True)

    rng = random.Random(1)
    weights = array.array("H", (bf16_bits(rng.gauss(0, 0.02)) for _ in range(TABLE))).tobytes()
    ones = struct.pack("<H", bf16_bits(1.0))

    def contents(file, name, size):
        if "norm" in name:
            file.write(ones * (size // 2))
            return
        while size > 0:
            start = 2 * rng.randrange(TABLE)
            piece = weights[start:start + size]
            file.write(piece)
            size -= len(piece)

    square, up, down = [HIDDEN, HIDDEN], [INTERMEDIATE, HIDDEN], [HIDDEN, INTERMEDIATE]
    parts = {"self_attn.q_proj": square, "self_attn.k_proj": square, "self_attn.v_proj": square, "self_attn.o_proj": square,
             "mlp.gate_proj": up, "mlp.up_proj": up, "mlp.down_proj": down, "input_layernorm": [HIDDEN], "post_attention_layernorm": [HIDDEN]}
    shards = [{f"model.layers.{block}.{part}.weight": ("BF16", shape) for part, shape in parts.items()} for block in range(args.blocks)]
    shards.insert(0, {"model.embed_tokens.weight": ("BF16", [VOCABULARY, HIDDEN])})
    shards.append({"model.norm.weight": ("BF16", [HIDDEN]), "lm_head.weight": ("BF16", [VOCABULARY, HIDDEN])})
    index = {}
    for i, tensors in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save(os.path.join(model, file), tensors, contents)
        index.update({name: file for name in tensors})
    with open(os.path.join(model, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": index}, file, indent=1)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
              "num_hidden_layers": args.blocks, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "vocab_size": VOCABULARY,
              "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
              "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16"}
    with open(os.path.join(model, "config.json"), "w") as file:
        json.dump(config, file, indent=1)

    tokens = {name: ("I32", [rows, args.tokens]) for name, rows in (("train", args.windows), ("val", 2), ("e2e", 2))}
    save(os.path.join(args.folder, "tokens.safetensors"), tokens,
         lambda file, name, size: file.write(array.array("i", (rng.randrange(3, VOCABULARY) for _ in range(size // 4))).tobytes()))


if __name__ == "__main__":
    main()
