#!/usr/bin/env python3
"""Token file of the parity run: the golden calibration rows, with the E2E-QP rows in the order in which the authors' run visited them.

    parity_tokens.py GOLDEN_FOLDER OUT.safetensors [--order e2e_lr2e-4.order]

crumb visits the rows of a token file in their order, so the order is the file's.
"""
import argparse
import json
import struct


def read(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        body = file.read()
    header.pop("__metadata__", None)
    return {name: (info["dtype"], info["shape"], body[info["data_offsets"][0]:info["data_offsets"][1]]) for name, info in header.items()}


def rows_of(tensor, order):
    dtype, shape, data = tensor
    size = len(data) // shape[0]
    return dtype, [len(order)] + shape[1:], b"".join(data[i * size:(i + 1) * size] for i in order)


def write(path, tensors):
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("golden")
    parser.add_argument("out")
    parser.add_argument("--order", default="e2e_lr2e-4.order")
    arguments = parser.parse_args()
    tokens = read(f"{arguments.golden}/smollm2_calib_tokens.safetensors")
    _, _, data = read(f"{arguments.golden}/smollm2_w2g64_baseline.safetensors")[arguments.order]
    order = list(struct.unpack(f"<{len(data) // 4}i", data))
    write(arguments.out, {"train": tokens["train"], "val": tokens["val"], "e2e": rows_of(tokens["e2e"], order)})


if __name__ == "__main__":
    main()
