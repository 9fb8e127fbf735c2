#!/usr/bin/env python3
"""Small models quantized by other programs' own tools, read by crumb: its logits beside those of the program.

    import_matrix.py --crumb BINARY --clients DIR [--venvs DIR] [--work DIR] [--only TEXT] [--json FILE]

Made by bench/foreign_checkpoints.py with the Python of each program, GGUF files by llama.cpp's quantizer (bench/clients/llamacpp_synthesize.py). A row:
tool, bits, largest |logit difference| between the program and `crumb eval --exact`, mean KL, and what `crumb import --check` said. Of GGUF files also
llama.cpp's dequantized weights beside crumb's. Exit 1 when a row is beyond its tolerance.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys

from export_matrix import VERDICT, WEIGHTS, last_line, run

HERE = os.path.dirname(os.path.abspath(__file__))
GPTQ = ["--backend", "gptq_torch", "--dtype", "float16"]
# tool: (venv of the tool, of the check, check script, arguments, tolerance, what explains it, [(bits, asymmetric)])
TOOLS = {
    "gptqmodel": ("gptqmodel", "gptqmodel", "check_gptqmodel.py", GPTQ, 3e-2, "fp16 arithmetic", [(2, 0), (3, 0), (4, 0), (8, 0)]),
    "gptqmodel-v2": ("gptqmodel", "gptqmodel", "check_gptqmodel.py", GPTQ, 3e-2, "fp16 arithmetic", [(2, 1), (4, 1)]),
    "auto-round": ("auto_round", "auto_round", "check_transformers.py", [], 2e-2, "fp32; 3 bits in half precision", [(2, 0), (2, 1), (3, 0), (4, 0), (4, 1), (8, 0)]),
    "auto-round-gptq": ("auto_round", "gptqmodel", "check_gptqmodel.py", GPTQ, 3e-2, "fp16 arithmetic", [(4, 0)]),  # GPTQModel takes no asymmetric v1
    "auto-round-awq": ("auto_round", "gptqmodel", "check_gptqmodel.py", ["--backend", "awq_torch", "--dtype", "float16"], 3e-2, "fp16 arithmetic", [(4, 0), (4, 1)]),
    "mlx": ("mlx", "mlx", "check_mlx.py", [], 2e-2, "biases rounded to fp16, crumb's zero points not", [(2, 0), (3, 0), (4, 0), (8, 0)]),
    "compressed-tensors": ("compressed_tensors", "compressed_tensors", "check_transformers.py", [], 1e-3, "fp32", [(2, 0), (4, 0), (8, 0)]),
    "compressed-tensors-w8a8": ("compressed_tensors", "compressed_tensors", "check_transformers.py", [], 2e-2, "fp32; codes at ties", [(8, 0)]),
}
GGUF_TYPES = ["Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "file:Q2_K", "file:Q3_K_M", "file:Q4_K_M"]


def model_in(folder):
    """The directory that holds config.json: auto-round writes one deeper."""
    return next((where for where, _, files in sorted(os.walk(folder)) if "config.json" in files), folder)


def row_of(args, tool, bits, model, command, environment):
    """Evaluates with crumb, imports, and asks the program. `command`: its check, given the reference's name."""
    row = {"tool": tool, "bits": bits}
    reference = os.path.join(args.work, "reference.safetensors")
    read = run([args.crumb, "eval", model, "--engine", "cpu", "--exact", "--tokens", os.path.join(args.tiny, "tokens.safetensors") + ":tokens", "--windows", "1", "--logits", reference])
    if read.returncode != 0:
        return {**row, "result": "refused", "reason": last_line(read.stderr)}
    imported = os.path.join(args.work, "imported")
    shutil.rmtree(imported, ignore_errors=True)
    done = run([args.crumb, "import", model, "-o", imported, "--check"])
    row["import"] = "lossless" if done.returncode == 0 else last_line(done.stderr).replace(os.getcwd() + os.sep, "")
    checked = run(command(reference), env={**os.environ, **environment})
    found = VERDICT.search(checked.stdout)
    if not found:
        return {**row, "result": "failed", "reason": last_line(checked.stderr or checked.stdout)[-200:]}
    weights = WEIGHTS.search(checked.stdout)
    return {**row, "client": found[2], "result": "works" if checked.returncode == 0 else "beyond tolerance", "max_difference": float(found[3]),
            "kl": float(found[4]), **({"weights": weights[1]} if weights else {})}


def rows(args):
    for tool, (maker, checker, script, extra, tolerance, why, cases) in TOOLS.items():
        python, client = (os.path.join(args.venvs, venv, "bin", "python") for venv in (maker, checker))
        for bits, asymmetric in cases:
            label = f"{bits} {'asym' if asymmetric else 'sym' if tool != 'mlx' else 'affine'}"
            if args.only and args.only not in f"{tool} {label}":
                continue
            if not os.path.exists(python) or not os.path.exists(client):
                yield {"tool": tool, "bits": label, "result": "not installed"}
                continue
            out = os.path.join(args.work, f"{tool}-{label.replace(' ', '-')}")
            if not os.path.exists(os.path.join(out, "made")):
                shutil.rmtree(out, ignore_errors=True)
                made = run([python, os.path.join(HERE, "foreign_checkpoints.py"), tool, os.path.join(args.tiny, "llama"), out, "--bits", str(bits)]
                           + (["--asym"] if asymmetric else []), cwd=args.work)  # GPTQModel leaves logs where it runs
                if made.returncode != 0:
                    yield {"tool": tool, "bits": label, "result": "not made", "reason": last_line(made.stderr)[-200:]}
                    continue
                open(os.path.join(out, "made"), "w").close()
            model = model_in(out)
            yield {**row_of(args, tool, label, model, lambda reference: [client, os.path.join(args.clients, script), model, "--logits", reference, "--tol", str(tolerance), *extra],
                            {"OMP_NUM_THREADS": "2"}), "explained_by": why}
    python = os.path.join(args.venvs, "llamacpp", "bin", "python")
    for kind in GGUF_TYPES:
        if args.only and args.only not in f"llama.cpp {kind}":
            continue
        file, floats = os.path.join(args.work, f"{kind.replace(':', '-')}.gguf"), os.path.join(args.work, "floats")
        made = run([python, os.path.join(HERE, "clients", "llamacpp_synthesize.py"), os.path.join(args.tiny, "llama", "config.json"), kind, file])
        if made.returncode != 0:
            yield {"tool": "llama.cpp", "bits": kind, "result": "not made", "reason": last_line(made.stderr)}
            continue
        shutil.rmtree(floats, ignore_errors=True)
        run([args.crumb, "export", file, "--to", "hf", "-o", floats])
        yield {**row_of(args, "llama.cpp", kind, file, lambda reference: [python, os.path.join(args.clients, "check_gguf.py"), file, "--logits", reference, "--tol", "1.0", "--weights", floats],
                        {"OMP_NUM_THREADS": "2"}), "explained_by": "activations in int8"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crumb", required=True)
    parser.add_argument("--clients", required=True)
    parser.add_argument("--venvs", default=".deps/clients")
    parser.add_argument("--work", default="build/import-matrix")
    parser.add_argument("--only")
    parser.add_argument("--json")
    args = parser.parse_args()
    args.work, args.venvs, args.clients, args.crumb = (os.path.abspath(p) for p in (args.work, args.venvs, args.clients, args.crumb))
    args.tiny = os.path.join(args.work, "tiny")
    os.makedirs(args.work, exist_ok=True)
    subprocess.run([sys.executable, os.path.join(HERE, "tiny_models.py"), args.tiny, "llama"], check=True, stdout=subprocess.DEVNULL)
    found = []
    for row in rows(args):
        found.append(row)
        print(row, file=sys.stderr, flush=True)
    if args.json:
        if os.path.exists(args.json):  # rows that were not made now stay
            made = {(r["tool"], r["bits"]) for r in found}
            with open(args.json) as old:
                found = [r for r in json.load(old) if (r["tool"], r["bits"]) not in made] + found
        with open(args.json, "w") as out:
            json.dump(found, out, indent=1)
    sys.exit(1 if any(r["result"] in ("beyond tolerance", "failed", "refused") for r in found) else 0)


if __name__ == "__main__":
    main()
