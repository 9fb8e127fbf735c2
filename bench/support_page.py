#!/usr/bin/env python3
"""docs/formats/support.md from bench/export_matrix.json and bench/import_matrix.json.

Rows of one format that differ only in their model are put together: those of random weights under the largest difference, trained ones by name.
"""
import json
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
HEAD = """# Who loads what

Made by `bench/export_matrix.sh` and `bench/import_matrix.sh` from the rows that they measured (`bench/export_matrix.json`, `bench/import_matrix.json`: every model for itself). The pages of the formats
say what each can hold; `crumb export MODEL --list` says it of one model.

## Exports

Models of random weights (`bench/tiny_models.py`: hidden size 256, two blocks, head tied in Qwen2 and OPT and untied in the others; Mistral with a window of 16; groups of 32, 64 and 128 in Llama, of 64 elsewhere)
rounded to each grid, and SmolLM2-135M-Instruct trained to 2 bits (a tied head, K = 576 and 1536), exported by `crumb export --to FORMAT` and loaded by the program named. Its logits are compared with
crumb's own in fp32 (`crumb eval --exact --logits`); of several models the largest difference is given. Where the remark has types, llama.cpp's own dequantizer was held against crumb's weights: 0 is equality.

"""
REASON = re.compile(r"model\.layers\.\d+\.[a-z_.]+: (.*?)(; model\.|\. Give|\. Take|; and )")


def cells(values):
    return "| " + " | ".join(str(v).replace("|", "\\|") for v in values) + " |"


def number(value):
    return "" if value is None else f"{value:.1e}"


def grouped(rows, key):
    out = {}
    for row in rows:
        out.setdefault(key(row), []).append(row)
    return out.items()


def exports(rows):
    lines = [cells(["format", "bits, grid", "models", "client", "result", "largest logit difference", "KL", "MB", "remark"]), "|" + "---|" * 9]

    def key(row):
        name, *rest = row["model"].split()
        if name == "trained":
            return (row["format"], 1, "2, signed-sym" if rest[0] == "signed" else "2, asym", row["result"])
        scheme, grid = rest
        return (row["format"], 0, f"{scheme[1]}, {grid}", row["result"])

    for (face, trained, grid, result), same in sorted(grouped(rows, key), key=lambda item: item[0]):
        worst = max(same, key=lambda r: r.get("max_difference", -1))
        names = ["SmolLM2 trained"] if trained else sorted({f"{r['model'].split()[0]} g{r['model'].split()[1].split('g')[1]}" for r in same})
        remark = worst.get("weights") or worst.get("reason") or worst.get("explained_by") or ""
        found = REASON.search(remark)
        sizes = sorted({r["bytes"] for r in same if "bytes" in r})
        size = "" if not sizes else f"{sizes[0] / 1e6:.2f}" + (f" to {sizes[-1] / 1e6:.2f}" if sizes[-1] != sizes[0] else "")
        lines.append(cells([face, grid, ", ".join(names), worst.get("client", ""), result, number(worst.get("max_difference")), number(worst.get("kl")), size,
                            found[1] if found else remark]))
    return "\n".join(lines)


def imports(rows):
    lines = [cells(["tool", "bits", "crumb import", "logits", "largest logit difference", "KL", "remark"]), "|" + "---|" * 7]
    for row in rows:
        said = row.get("import", "")
        if "no block linear holds codes" in said:
            said = "no: the file's types have no grid of crumb's; `crumb export --to hf`, or run as it is"
        elif "no binary16 number" in said:
            said = "with `--requantize`: its F32 scales are rounded to binary16"
        lines.append(cells([row["tool"], row["bits"], said, row["result"], number(row.get("max_difference")), number(row.get("kl")),
                            row.get("weights") or row.get("reason") or row.get("explained_by") or ""]))
    return "\n".join(lines)


def main():
    def load(name):
        path = os.path.join(HERE, name)
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return json.load(file)
    text = HEAD + exports(load("export_matrix.json")) + "\n"
    made = load("import_matrix.json")
    if made:
        text += ("\n## Checkpoints that other tools made\n\nA Llama of random weights in groups of 64, quantized by the tool itself (`bench/foreign_checkpoints.py`; GGUF files by llama.cpp's quantizer), read by crumb "
                 "as it lies there: `crumb eval --exact` beside the tool's own program.\n\n" + imports(made) + "\n")
    with open(os.path.join(HERE, "..", "docs", "formats", "support.md"), "w") as out:
        out.write(text)


if __name__ == "__main__":
    main()
