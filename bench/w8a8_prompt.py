#!/usr/bin/env python3
"""Called by bench/w8a8_prompt.sh: prompts of one shape, rounded weights and activations against floats and against llama.cpp's Q8_0."""
import argparse
import json
import os
import statistics
import sys

from against_llamacpp import CLIENTS, QUIET, ROOT, Paced, made

KEY = "prompt_tokens_per_second"
GOAL = 1.0  # over each of the others


def main():
    parser = argparse.ArgumentParser(prog="bench/w8a8_prompt.sh", description=__doc__)
    parser.add_argument("--crumb", default=os.path.join(ROOT, "build", "no-torch", "crumb"))
    parser.add_argument("--shape", choices=["135m", "1b", "3b", "7b"], default="1b")
    parser.add_argument("--blocks", type=int, default=0, help="only so many decoder blocks; 0: all of the shape")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--isa", help="crumb's instruction set, as CRUMB_FORCE_ISA; llama.cpp keeps its own choice")
    parser.add_argument("--models", default=os.path.join(ROOT, "build", "bench-models"), help="folder for the models of random weights")
    parser.add_argument("--json", metavar="FILE", help="also write every round there")
    a = parser.parse_args()
    os.makedirs(a.models, exist_ok=True)
    name = f"{a.shape}-{a.blocks}-blocks" if a.blocks else a.shape
    ours = made(os.path.join(a.models, f"{name}-w8-a8kv8"), [a.crumb, "bench", "synthesize", "--shape", a.shape, "--blocks", str(a.blocks), "--bits", "8", "--group", "-1",
                                                             "--act-bits", "8", "--kv-bits", "8", "-o", "{out}"])
    synthesize = os.path.join(CLIENTS, "llamacpp_synthesize.py")
    ggufs = {kind: made(os.path.join(a.models, f"{name}-{kind}.gguf"), [sys.executable, synthesize, os.path.join(ours, "config.json"), kind, "{out}"])
             for kind in ("F32", "BF16", "Q8_0")}
    # Threads that spin after a round would take the processors from the other programs.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "OPENBLAS_"))}
    if a.isa:
        environment["CRUMB_FORCE_ISA"] = a.isa

    def crumb(model):
        return Paced([a.crumb, "bench", model, "--paced", "--head-bits", "8", "--threads", str(a.threads), "--prompt", str(a.prompt), "--gen", "0"], environment)

    programs = {"crumb w8a8": crumb(ours), "crumb f32": crumb(ggufs["F32"]), "crumb bf16": crumb(ggufs["BF16"]),
                "llama.cpp Q8_0": Paced([sys.executable, os.path.join(CLIENTS, "llamacpp_speed.py"), ggufs["Q8_0"], str(a.threads), str(a.prompt), "0"], environment)}
    first = next(iter(programs))
    system = programs["llama.cpp Q8_0"].read()["system"]
    for program in programs.values():
        program.round()  # loading is done by the end of it
    rounds, order = [], list(programs)
    for i in range(a.rounds):
        rounds.append({which: programs[which].round() for which in order[i % len(order):] + order[:i % len(order)]})
    descriptions = {which: program.close().get("description", system) for which, program in programs.items()}
    quiet = [r for r in rounds if max(p["others"] for p in r.values()) < QUIET]
    counted = quiet or rounds
    print(f"shape {name}, prompt of {a.prompt} tokens, {a.threads} threads; {descriptions[first]}\n\n| program | tokens/s | w8a8 over it | tokens per processor second | w8a8 over it | goal |\n|---|---|---|---|---|---|")

    def cells(speed_of, which):
        ratios = [speed_of(r[first]) / speed_of(r[which]) for r in counted]
        speed = f"{statistics.median(speed_of(r[which]) for r in counted):.0f}"
        return f"{speed} | - " if which == first else f"{speed} | **{statistics.median(ratios):.2f}** ({min(ratios):.2f} … {max(ratios):.2f}) "

    for which in programs:
        goal = "-" if which == first else GOAL
        print(f"| {which} | {cells(lambda r: r[KEY], which)}| {cells(lambda r: a.prompt / r['processor_seconds'], which)}| {goal} |")
    print(f"\n{len(quiet)} of {len(rounds)} rounds were quiet (others had less than {QUIET:.0%} of the machine)" + (
        "." if len(quiet) >= 3 else "; all rounds count. Then ratios by processor time on one thread (--threads 1) are what can be read: threads that spin at barriers count as work."))
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump({"shape": name, "prompt": a.prompt, "threads": a.threads, "descriptions": descriptions, "rounds": rounds}, file, indent=1)


if __name__ == "__main__":
    main()
