#!/usr/bin/env python3
"""Exports small and trained models to every format and loads the results in the clients that are installed.

    export_matrix.py --crumb BINARY --clients DIR [--venvs DIR] [--work DIR] [--trained DIR --text FILE] [--only TEXT] [--formats A,B]
                     [--json FILE]

  --clients   folder of the check_*.py scripts, one for each client
  --venvs     folder of virtual environments named llamacpp, onnxruntime, mlx, compressed_tensors, auto_round, gptqmodel; those that lack are
              reported as not installed
  --formats   some formats only; rows that --json holds already and this run does not make stay
  --trained   a directory that crumb quantized, with a text for it; several are possible

A row: format, model, bits, grid, client with its version, largest |logit difference| against crumb's own fp32 logits (`crumb eval --exact
--logits`), mean KL, size of the export, or why there is none. Exit 1 when a client's logits are beyond the tolerance of its row.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
VERDICT = re.compile(r"(PASS|FAIL) (.*?): max \|diff\| (\S+) \(tol \S+\)  KL (\S+)")
WEIGHTS = re.compile(r"weights: (.*)")

# format: [(venv, script, extra arguments, tolerance on tiny models, on a trained model, what explains it)]
CLIENTS = {
    "gptq": [("gptqmodel", "check_gptqmodel.py", ["--backend", "gptq_torch", "--dtype", "float16"], 3e-2, 0.3, "fp16 arithmetic")],
    "gptq-v1": [("gptqmodel", "check_gptqmodel.py", ["--backend", "gptq_torch", "--dtype", "float16"], 3e-2, 0.3, "fp16 arithmetic")],
    "auto-round": [("auto_round", "check_transformers.py", [], 2e-2, 0.3, "fp32; 3 bits in half precision")],
    "compressed-tensors": [("compressed_tensors", "check_transformers.py", [], 1e-3, 1e-2, "fp32")],
    "awq": [("gptqmodel", "check_gptqmodel.py", ["--backend", "awq_torch", "--dtype", "float16"], 3e-2, 0.3, "fp16 arithmetic")],
    "mlx": [("mlx", "check_mlx.py", [], 1e-3, 1e-2, "fp32")],
    "onnx": [("onnxruntime", "check_onnxruntime.py", [], 1e-3, 1e-2, "fp32")],
    "gguf": [("llamacpp", "check_gguf.py", [], 0.5, 5.0, "activations in int8")],
    "hf": [("compressed_tensors", "check_transformers.py", [], 1e-3, 1e-2, "fp32")],
}


def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def models(args):
    """(label, directory, what to evaluate on, trained): tiny models rounded to each grid, and the trained one."""
    tiny = os.path.join(args.work, "tiny")
    if not os.path.exists(os.path.join(tiny, "tokens.safetensors")):
        subprocess.run([sys.executable, os.path.join(HERE, "tiny_models.py"), tiny], check=True, stdout=subprocess.DEVNULL)
    tokens = os.path.join(tiny, "tokens.safetensors") + ":tokens"
    for family, group in (("llama", 32), ("llama", 64), ("llama", 128), ("mistral", 64), ("qwen2", 64), ("qwen3", 64), ("opt", 64)):
        for bits in (2, 3, 4):
            for grid in ("asym", "signed-sym"):
                label = f"{family} w{bits}g{group} {grid}"
                if args.only and args.only not in label:
                    continue
                out = os.path.join(args.work, label.replace(" ", "-"))
                if not os.path.exists(os.path.join(out, "config.json")):
                    made = run([args.quantizer or args.crumb, "quantize", os.path.join(tiny, family), "-o", out, "--recipe", "rtn-w2g64", "--set", f"weights.bits={bits}",
                                "--set", f"weights.group_size={group}", "--set", f"weights.grid={grid}", "--calib", tokens, "--restart"])
                    if made.returncode != 0:
                        raise SystemExit(f"export_matrix: {label}: {last_line(made.stderr)}")
                yield label, out, ["--tokens", tokens, "--context", "64"], False
    for trained in args.trained:
        label = f"trained {os.path.basename(os.path.abspath(trained))}"
        if not args.only or args.only in label:
            yield label, trained, ["--text", args.text, "--context", "256"], True


def logits_of(args, directory, evaluation, out):
    made = run([args.crumb, "eval", directory, "--exact", *evaluation, "--windows", "1", "--logits", out])
    if made.returncode != 0:
        raise SystemExit(f"export_matrix: {directory}: {last_line(made.stderr)}")
    return out


def size_of(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(path, f)) for f in os.listdir(path))


def check(args, format_name, exported, reference, floats, trained):
    """One row's result for each client of the format."""
    for venv, script, extra, tiny_tolerance, trained_tolerance, why in CLIENTS[format_name]:
        python = os.path.join(args.venvs, venv, "bin", "python")
        if not os.path.exists(python):
            yield {"client": venv, "result": "not installed"}
            continue
        tolerance = trained_tolerance if trained else tiny_tolerance
        target = os.path.join(exported, "model.onnx") if format_name == "onnx" else exported
        command = [python, os.path.join(args.clients, script), target, "--logits", reference, "--tol", str(tolerance), *extra]
        if format_name == "gguf" and floats:
            command += ["--weights", floats]
        done = run(command, env={**os.environ, "OMP_NUM_THREADS": "2"})
        found = VERDICT.search(done.stdout)
        if not found:
            yield {"client": venv, "result": "failed", "reason": last_line(done.stderr or done.stdout)[-200:]}
            continue
        row = {"client": found[2], "result": "works" if done.returncode == 0 else "beyond tolerance", "max_difference": float(found[3]),
               "kl": float(found[4]), "tolerance": tolerance, "explained_by": why}
        weights = WEIGHTS.search(done.stdout)
        if weights:
            row["weights"] = weights[1]
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crumb", required=True)
    parser.add_argument("--quantizer", help="the binary that quantizes, where --crumb is built without torch")
    parser.add_argument("--clients", required=True)
    parser.add_argument("--venvs", default=".deps/clients")
    parser.add_argument("--work", default="build/export-matrix")
    parser.add_argument("--trained", action="append", default=[])
    parser.add_argument("--text")
    parser.add_argument("--only")
    parser.add_argument("--formats", default=",".join(CLIENTS))
    parser.add_argument("--json")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    rows = []
    for label, directory, evaluation, trained in models(args):
        slug = label.replace(" ", "-")
        reference = logits_of(args, directory, evaluation, os.path.join(args.work, slug + ".logits.safetensors"))
        floats = None
        wanted = args.formats.split(",")
        floats_first = ["hf"] if {"hf", "gguf"} & set(wanted) else []  # which llama.cpp's weights are held against
        for format_name in floats_first + [f for f in wanted if f != "hf"]:
            out = os.path.join(args.work, f"{slug}.{format_name}" + (".gguf" if format_name == "gguf" else ""))
            if os.path.isdir(out):
                shutil.rmtree(out)
            elif os.path.exists(out):
                os.remove(out)
            # A head of Q8_0 would show in the logits; the linears are what is compared.
            more = ["--head-type", "F16"] if format_name == "gguf" else []
            exported = run([args.crumb, "export", directory, "--to", format_name, "-o", out, *more])
            if exported.returncode != 0:
                rows.append({"model": label, "format": format_name, "result": "refused", "reason": last_line(exported.stderr)})
                continue
            if format_name == "hf":
                floats = out
            if format_name not in wanted:
                continue
            against = reference
            # llama.cpp and mlx-lm have no window for this family: the same up to it, and a GGUF file's context ends there.
            if format_name in ("gguf", "mlx") and label.startswith("mistral"):
                against = logits_of(args, directory, [*evaluation[:2], "--context", "16"], os.path.join(args.work, slug + ".window.safetensors"))
            for result in check(args, format_name, out, against, floats, trained):
                rows.append({"model": label, "format": format_name, "bytes": size_of(out), **result})
        print(f"{label}: " + ", ".join(f"{r['format']} {r['result']}" for r in rows if r["model"] == label), file=sys.stderr, flush=True)
    if args.json and os.path.exists(args.json):  # rows that were not made now stay
        made = {(r["format"], r["model"]) for r in rows}
        with open(args.json) as old:
            rows = [r for r in json.load(old) if (r["format"], r["model"]) not in made] + rows
    if args.json:
        rows.sort(key=lambda r: (r["format"], r["model"]))
        with open(args.json, "w") as out:
            json.dump(rows, out, indent=1)
    sys.exit(1 if any(r["result"] in ("beyond tolerance", "failed") for r in rows) else 0)


if __name__ == "__main__":
    main()
