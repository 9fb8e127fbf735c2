#!/usr/bin/env python3
"""Writes a GGUF file of random weights in the shape of a config.json, for measuring llama.cpp's speed only.

    llamacpp_synthesize.py CONFIG.json TYPE OUT.gguf      TYPE: Q2_K, Q2_0, Q3_K, Q4_0, Q4_K, ... or a file type: file:Q2_K, file:Q3_K_M, file:Q4_K_M

With a type every linear of the blocks has it, which favors llama.cpp's speed: the files that users have mix types. A file type gives each linear what
llama-quantize gives it for the llama architecture without an importance matrix (llama.cpp's src/llama-quant.cpp), with its replacements where rows are no
multiple of 256. Embedding and head have Q6_K, or Q8_0 where rows are no multiple of 256, as llama.cpp chooses them. The numbers of one piece of rows are
quantized by ggml_quantize_chunk and repeated.
"""
import ctypes as C
import json
import struct
import sys

import numpy as np

from llamacpp import P, function, start

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "BF16": 30, "Q2_0": 42}
FILES = ("file:Q2_K", "file:Q3_K_M", "file:Q4_K_M")
REPLACED = {"Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
PIECE = 256  # distinct rows


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(key, value):
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    return text(key) + struct.pack("<II", 4, value)


def check_types():
    name = function("ggml_type_name", C.c_char_p, C.c_int)
    for word, number in TYPES.items():
        if name(number).decode().lower() != word.lower():
            sys.exit(f"ggml's type {number} is {name(number).decode()}, not {word}; this wheel needs another table")


def linear_type(kind, name, block, blocks, heads_per_kv, k):
    """The ggml type of a block's linear."""
    if kind not in FILES:
        return kind
    more_bits = block < blocks // 8 or block >= 7 * blocks // 8 or (block - blocks // 8) % 3 == 2
    if kind == "file:Q2_K":
        out = {"attn_v": "Q4_K" if heads_per_kv >= 4 else "Q3_K", "attn_output": "Q3_K", "ffn_down": "Q3_K"}.get(name, "Q2_K")
    elif kind == "file:Q3_K_M":
        out = {"attn_v": "Q5_K" if block < 2 else "Q4_K", "attn_output": "Q4_K", "ffn_down": "Q5_K" if block < blocks // 16 else "Q4_K"}.get(name, "Q3_K")
    else:
        out = "Q6_K" if name in ("attn_v", "ffn_down") and more_bits else "Q4_K"
    return out if k % 256 == 0 else REPLACED[out]


def main():
    if len(sys.argv) != 4 or sys.argv[2] not in (*TYPES, *FILES):
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        c = json.load(file)
    start()
    check_types()
    block = function("ggml_blck_size", C.c_int64, C.c_int)
    row_size = function("ggml_row_size", C.c_size_t, C.c_int, C.c_int64)
    quantize = function("ggml_quantize_chunk", C.c_size_t, C.c_int, P, P, C.c_int64, C.c_int64, C.c_int64, P)
    hidden, mlp, vocabulary = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    outer = "Q6_K" if hidden % 256 == 0 else "Q8_0"
    tensors = [("token_embd.weight", vocabulary, hidden, outer), ("output_norm.weight", 0, hidden, "F32")]
    if not c["tie_word_embeddings"]:
        tensors.append(("output.weight", vocabulary, hidden, outer))
    for i in range(c["num_hidden_layers"]):
        tensors += [(f"blk.{i}.attn_norm.weight", 0, hidden, "F32"), (f"blk.{i}.ffn_norm.weight", 0, hidden, "F32")]
        for name, n, k in (("attn_q", q, hidden), ("attn_k", kv, hidden), ("attn_v", kv, hidden), ("attn_output", hidden, q),
                           ("ffn_gate", mlp, hidden), ("ffn_up", mlp, hidden), ("ffn_down", hidden, mlp)):
            kind = linear_type(sys.argv[2], name, i, c["num_hidden_layers"], c["num_attention_heads"] // c["num_key_value_heads"], k)
            if k % block(TYPES[kind]) != 0:
                sys.exit(f"{kind} wants rows of a multiple of {block(TYPES[kind])}; {name} has {k}")
            tensors.append((f"blk.{i}.{name}.weight", n, k, kind))

    meta = {"general.architecture": "llama", "general.name": "random weights", "general.alignment": 32, "llama.block_count": c["num_hidden_layers"],
            "llama.context_length": c["max_position_embeddings"], "llama.embedding_length": hidden, "llama.feed_forward_length": mlp,
            "llama.attention.head_count": c["num_attention_heads"], "llama.attention.head_count_kv": c["num_key_value_heads"],
            "llama.attention.key_length": c["head_dim"], "llama.attention.value_length": c["head_dim"], "llama.rope.dimension_count": c["head_dim"],
            "llama.attention.layer_norm_rms_epsilon": float(c["rms_norm_eps"]), "llama.rope.freq_base": float(c["rope_theta"]),
            "llama.vocab_size": vocabulary, "tokenizer.ggml.model": "no_vocab"}
    random, pieces = np.random.default_rng(1), {}

    def piece(k, kind):
        if (k, kind) not in pieces:
            values = ((random.random((PIECE, k), dtype=np.float32) - 0.5) * np.float32(3.4641 / k**0.5)).astype(np.float32)
            raw = np.empty(PIECE * row_size(TYPES[kind], k), np.uint8)
            if quantize(TYPES[kind], values.ctypes.data, raw.ctypes.data, 0, PIECE, k, None) != raw.nbytes:
                sys.exit(f"ggml_quantize_chunk to {kind} gave another size")
            pieces[k, kind] = raw
        return pieces[k, kind]

    def size(n, k, kind):
        return 4 * k if n == 0 else n * row_size(TYPES[kind], k)

    with open(sys.argv[3], "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)) + b"".join(entry(k, v) for k, v in meta.items()))
        offset = 0
        for name, n, k, kind in tensors:
            file.write(text(name) + (struct.pack("<IQ", 1, k) if n == 0 else struct.pack("<IQQ", 2, k, n)) + struct.pack("<IQ", TYPES[kind], offset))
            offset += -(-size(n, k, kind) // 32) * 32
        file.write(b"\0" * (-file.tell() % 32))
        for name, n, k, kind in tensors:
            if n == 0:
                file.write(np.ones(k, np.float32).tobytes())
            else:
                raw, row = piece(k, kind), row_size(TYPES[kind], k)
                for first in range(0, n, PIECE):
                    file.write(raw[:min(PIECE, n - first) * row].tobytes())
            file.write(b"\0" * (-size(n, k, kind) % 32))


if __name__ == "__main__":
    main()
