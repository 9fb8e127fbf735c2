#!/usr/bin/env python3
"""Called by bench/roofline_table.sh: predicted and measured tokens/s, round by round in turn."""
import argparse
import json
import os
import statistics
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WANTED = 0.15


def asked(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def main():
    parser = argparse.ArgumentParser(prog="bench/roofline_table.sh", description=__doc__)
    parser.add_argument("--crumb", default=os.path.join(ROOT, "build", "release", "crumb"))
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=["135m", "1b", "3b"])
    parser.add_argument("--bits", type=lambda text: [int(word) for word in text.split(",")], default=[2, 3, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--plot", metavar="FILE.svg", help="the picture of the last model")
    parser.add_argument("--models", default=os.path.join(ROOT, "build", "bench-models"))
    a = parser.parse_args()
    os.makedirs(a.models, exist_ok=True)
    far = []
    print("| shape | weights | decode predicted | measured | ratio | bound by | prompt predicted | measured | ratio | bound by |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for shape in a.shapes:
        for bits in a.bits:
            model = os.path.join(a.models, f"{shape}-w{bits}g64")
            if not os.path.exists(model):
                subprocess.run([a.crumb, "bench", "synthesize", "--shape", shape, "--bits", str(bits), "-o", model], check=True, stdout=subprocess.DEVNULL)
            shared = ["--threads", str(a.threads), "--prompt", str(a.prompt), "--json"]
            predictions, measurements = [], []
            for _ in range(a.rounds):
                predictions.append(asked([a.crumb, "roofline", model, "--context", str(a.gen // 2), *shared, *(["--plot", a.plot] if a.plot else [])]))
                measurements.append(asked([a.crumb, "bench", model, "--gen", str(a.gen), "--rounds", "3", *shared]))
            cells = [shape, f"w{bits}g64"]
            for part in ("decode", "prompt"):
                key = f"{part}_tokens_per_second"
                predicted, measured = (statistics.median(one[key] for one in all_of) for all_of in (predictions, measurements))
                ratio = statistics.median(p[key] / m[key] for p, m in zip(predictions, measurements))
                if abs(ratio - 1) > WANTED:
                    far.append(f"{shape} w{bits} {part}")
                cells += [f"{predicted:.1f}", f"{measured:.1f}", f"{ratio:.2f}", predictions[-1][f"{part}_bound"]]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\n{a.threads} threads. " + (f"Outside of {WANTED:.0%}: {', '.join(far)}." if far else f"All within {WANTED:.0%}."))


if __name__ == "__main__":
    main()
