#!/usr/bin/env python3
"""Compares the tensors that crumb wrote with those of an independent packer.

    faces_oracle.py FACES_PY CODES.safetensors FACE BITS DIRECTORY

FACES_PY is a module with gptq(), ct(), awq() and mlx() on numpy arrays; CODES has q, z (U8) and s (F16) of every linear. Exit code 0 and
"compared N tensors" when all bytes agree, 1 when one does not, 77 without numpy.
"""
import glob
import importlib.util
import json
import os
import sys
import types

try:
    import numpy as np
except ImportError:
    print("numpy is not installed")
    sys.exit(77)

DTYPES = {"F16": "<f2", "F32": "<f4", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U8": "u1", "BF16": "<u2"}


def read_safetensors(path):
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[slice(*t["data_offsets"])], DTYPES[t["dtype"]]).reshape(t["shape"]) for name, t in header.items()}


def load_faces(path):
    # The module reads models with the safetensors package, which the packers do not need.
    stub = types.ModuleType("safetensors")
    stub.numpy = types.ModuleType("safetensors.numpy")
    stub.numpy.load_file = stub.numpy.save_file = None
    sys.modules.setdefault("safetensors", stub)
    sys.modules.setdefault("safetensors.numpy", stub.numpy)
    spec = importlib.util.spec_from_file_location("faces", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    faces = load_faces(sys.argv[1])
    codes = read_safetensors(sys.argv[2])
    face, bits = sys.argv[3], int(sys.argv[4])
    written = {}
    for path in glob.glob(os.path.join(sys.argv[5], "*.safetensors")):
        written.update(read_safetensors(path))
    compared = 0
    for linear in sorted(name[:-2] for name in codes if name.endswith(".q")):
        q, z, s = (codes[f"{linear}.{part}"] for part in "qzs")
        if face == "gptq":
            expected = faces.gptq(q, z, s, bits, False)
        elif face == "gptq-v1":
            expected = faces.gptq(q, z, s, bits, True)
        elif face == "auto-round":
            expected = faces.gptq(q, z, s, bits, False, g_idx=False)
        elif face == "compressed-tensors":
            expected = faces.ct(q, z, s, bits, True)
        elif face == "compressed-tensors-asym":
            expected = faces.ct(q, z, s, bits, False)
        elif face == "awq":
            expected = faces.awq(q, z, s)
        elif face == "mlx":
            expected = faces.mlx(q, z, s, bits, written[f"{linear}.scales"].dtype == np.float32)
        else:
            sys.exit(f"no face {face}")
        found = {name for name in written if name.startswith(linear + ".") and not name.endswith(".bias")}
        if found != {f"{linear}.{part}" for part in expected}:
            print(f"{linear}: wrote {sorted(found)}; expected {sorted(expected)}")
            return 1
        for part, value in expected.items():
            value = np.ascontiguousarray(value)
            mine = written[f"{linear}.{part}"]
            if mine.shape != value.shape or mine.dtype.itemsize != value.dtype.itemsize or mine.tobytes() != value.tobytes():
                print(f"{linear}.{part}: bytes differ")
                return 1
            compared += 1
    print(f"compared {compared} tensors")
    return 0 if compared else 1


if __name__ == "__main__":
    sys.exit(main())
