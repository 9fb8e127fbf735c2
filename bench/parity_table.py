#!/usr/bin/env python3
"""The table of efficientqat_parity.sh: parity_table.py GOLDEN_FOLDER RESULTS_FOLDER"""
import glob
import json
import math
import os
import struct
import sys

from parity_tokens import read


def f64(tensor):
    return list(struct.unpack(f"<{len(tensor[2]) // 8}d", tensor[2]))


def main():
    golden, results = sys.argv[1:3]
    baseline = read(f"{golden}/smollm2_w2g64_baseline.safetensors")
    theirs = {}
    for name, tensor in baseline.items():
        if name.startswith("nll."):
            values = f64(tensor)
            theirs[name[4:]] = math.exp(sum(values) / len(values))
    print("authors' code: " + ", ".join(f"{name} {ppl:.4g}" for name, ppl in sorted(theirs.items())))
    print(f"{'run':28} {'fp':>8} {'rtn':>10} {'block_ap':>9} {'e2e_qp':>8} {'block_ap s':>11} {'e2e s':>7}")
    for path in sorted(glob.glob(os.path.join(results, "*.json"))):
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        stages = {row["stage"]: row for row in report["stages"]}
        def ppl(stage):
            return stages[stage]["ppl"] if stage in stages else float("nan")
        print(f"{os.path.basename(path)[:-5]:28} {ppl('fp'):8.3f} {ppl('rtn'):10.4g} {ppl('block_ap'):9.1f} {ppl('e2e_qp'):8.1f} "
              f"{report['block_stages']['seconds']:11.0f} {report['e2e_qp']['seconds']:7.0f}")
    path = os.path.join(results, "parity.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        losses = f64(baseline["blockap.loss"])
        steps = baseline["blockap.loss"][1][1]
        print("\nparity run, largest relative difference of the loss to the authors' run:")
        for block in (0, 1, 2, 5, 10):
            ours, gold = report["blocks"][block]["losses"], losses[block * steps:(block + 1) * steps]
            difference = [abs(a - b) / b for a, b in zip(ours, gold)]
            print(f"  block {block:2}: first 8 steps {max(difference[:8]):.2e}, all {len(difference)} steps {max(difference):.2e}")


if __name__ == "__main__":
    main()
