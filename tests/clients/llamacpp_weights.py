#!/usr/bin/env python3
"""Every tensor of a GGUF file through llama.cpp's own parser and dequantizer, beside the numbers it should hold; then the model is loaded and run.

    llamacpp_weights.py FILE.gguf EXPECTED.safetensors      EXPECTED: F32 tensors by their GGUF names, as stored; exit status 1 when any number differs
"""
import ctypes as C
import json
import os
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "clients"))
from llamacpp import Model, P, function  # noqa: E402


class GgufParams(C.Structure):
    _fields_ = [("no_alloc", C.c_bool), ("ctx", P)]


def expected_tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[slice(*entry["data_offsets"])], "<f4") for name, entry in header.items()}


def tensors(path):
    """(name, type, values) of each tensor."""
    gguf = function("gguf_init_from_file", P, C.c_char_p, GgufParams)(path.encode(), GgufParams(True, None))
    if not gguf:
        sys.exit(f"llama.cpp's parser refuses {path}")
    field = {name: function(f"gguf_get_tensor_{name}", kind, P, C.c_int64)
             for name, kind in (("name", C.c_char_p), ("type", C.c_int), ("offset", C.c_size_t), ("size", C.c_size_t))}
    begin = function("gguf_get_data_offset", C.c_size_t, P)(gguf)
    to_float = C.CFUNCTYPE(None, P, P, C.c_int64)
    with open(path, "rb") as file:
        for i in range(function("gguf_get_n_tensors", C.c_int64, P)(gguf)):
            kind = field["type"](gguf, i)
            file.seek(begin + field["offset"](gguf, i))
            raw = file.read(field["size"](gguf, i))
            if kind == 0:
                values = np.frombuffer(raw, "<f4")
            else:
                count = len(raw) // function("ggml_type_size", C.c_size_t, C.c_int)(kind) * function("ggml_blck_size", C.c_int64, C.c_int)(kind)
                values = np.empty(count, np.float32)
                traits = function("ggml_get_type_traits", P, C.c_int)(kind)  # {name; block size; interleave; type size; is_quantized; to_float}
                to_float(C.cast(traits + 40, C.POINTER(P))[0])(raw, values.ctypes.data_as(P), count)
            yield field["name"](gguf, i).decode(), function("ggml_type_name", C.c_char_p, C.c_int)(kind).decode(), values


def main():
    path, expected = sys.argv[1], expected_tensors(sys.argv[2])
    worst, wrong = {}, []
    for name, kind, values in tensors(path):
        want = expected.pop(name)
        difference = float(np.abs(values - want).max()) if values.shape == want.shape else float("inf")
        worst[kind] = max(worst.get(kind, 0.0), difference)
        if difference != 0:
            wrong.append(name)
    wrong += [f"{name} (missing)" for name in expected]
    model = Model(path, 64, 1)
    finite = bool(np.isfinite(model.all_logits(list(range(3, 35)))).all())
    print(json.dumps({"worst": worst, "wrong": wrong, "finite": finite}))
    sys.exit(1 if wrong or not finite else 0)


if __name__ == "__main__":
    main()
