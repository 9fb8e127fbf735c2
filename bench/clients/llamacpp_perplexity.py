#!/usr/bin/env python3
"""Perplexity of GGUF files by llama.cpp on the windows of a token file, as `crumb eval --tokens` counts it: windows by themselves, no special tokens, the first
token of each unscored, exp of the mean over all scored tokens. One line of JSON for each file.

    llamacpp_perplexity.py FILE.gguf... --tokens FILE.safetensors:NAME [--windows N] [--threads N]
"""
import argparse
import json
import math
import os
import struct

import numpy as np

from llamacpp import Model


def windows_of(argument):
    """[rows, tokens] int32 of a safetensors file."""
    path, _, name = argument.rpartition(":")
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()
        tensor = header[name]
        assert tensor["dtype"] in ("I32", "I64"), tensor
        file.seek(start + tensor["data_offsets"][0])
        kind = "<i4" if tensor["dtype"] == "I32" else "<i8"
        return np.frombuffer(file.read(tensor["data_offsets"][1] - tensor["data_offsets"][0]), kind).reshape(tensor["shape"])


def nll(logits, ids):
    """Sum of -log p(ids[i + 1] | ids[: i + 1])."""
    x = logits[:-1].astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return float((np.log(np.exp(x).sum(-1)) - x[np.arange(len(ids) - 1), ids[1:]]).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--windows", type=int, default=0, help="at most so many; 0: all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    a = parser.parse_args()
    windows = windows_of(a.tokens)
    if a.windows:
        windows = windows[:a.windows]
    for path in a.files:
        model = Model(path, windows.shape[1], a.threads)
        total = sum(nll(model.all_logits(row.tolist()), row) for row in windows)
        mean = total / (windows.shape[0] * (windows.shape[1] - 1))
        print(json.dumps({"file": os.path.basename(path), "bytes": os.path.getsize(path), "windows": windows.shape[0], "context": windows.shape[1], "nll": mean,
                          "perplexity": math.exp(mean)}), flush=True)


if __name__ == "__main__":
    main()
