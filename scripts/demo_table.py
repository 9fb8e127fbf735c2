#!/usr/bin/env python3
"""demo.sh's last step: demo/table.json from the two reports, and the table and the texts on the screen."""
import json
import sys
import textwrap

NAMES = {"fp": "full precision", "rtn": "rounded to nearest", "block_ap": "Block-AP", "e2e_qp": "Block-AP + E2E-QP"}
FIELDS = ("stage", "ppl", "bits_per_weight", "file_bytes", "seconds", "peak_rss_bytes")


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def table_rows():
    """fp, block_ap and e2e_qp of the training run; rtn is the min-max rounding of its own run, so that it was never trained."""
    trained = {row["stage"]: row for row in load("demo/report.json")["stages"]}
    plain = {row["stage"]: row for row in load("demo/rtn.json")["stages"]}
    rows = []
    for stage, source in (("fp", trained), ("rtn", plain), ("block_ap", trained), ("e2e_qp", trained)):
        if stage not in source:
            sys.exit(f"demo_table.py: error: the report has no stage '{stage}'; it has {', '.join(source)}")
        rows.append({field: source[stage].get(field) for field in FIELDS})
    return rows


def number(value, pattern):
    return "-" if value is None else pattern.format(value)


def main():
    bits = sys.argv[1]
    rows = table_rows()
    with open("demo/table.json", "w", encoding="utf-8") as file:
        json.dump({"rows": rows}, file, indent=2)
        file.write("\n")

    print(f"\nSmolLM2-135M-Instruct, {bits} bits, groups of 64, Wikipedia text in windows of 1024 tokens\n")
    print(f"{'':20}{'perplexity':>12}{'bits/weight':>13}{'file':>10}{'seconds':>9}{'peak memory':>13}")
    for row in rows:
        print(f"{NAMES[row['stage']]:20}{number(row['ppl'], '{:,.2f}'):>12}{number(row['bits_per_weight'], '{:.3f}'):>13}"
              f"{number(row['file_bytes'] and row['file_bytes'] / 1e6, '{:.1f} MB'):>10}{number(row['seconds'], '{:.0f}'):>9}"
              f"{number(row['peak_rss_bytes'] and row['peak_rss_bytes'] / 1e9, '{:.2f} GB'):>13}")

    for which, title in (("fp", "full precision"), ("rtn", f"{bits} bits, rounded to nearest"), ("trained", f"{bits} bits, trained")):
        said = load(f"demo/generated-{which}.json")
        print(f"\n[{title}]")
        print(textwrap.fill((said["prompt"] + said["text"]).replace("\n", " "), 110))

    print("\nWhat to expect:")
    if bits == "2":
        words = """A model of 135 million weights has little to spare. Rounded to 2 bits it knows nothing any more; training for some minutes on
        two cores brings its perplexity down by orders of magnitude, to a text of common words and half sentences, and still many times worse
        than full precision. It is a demonstration of the method, not a model to use. At 2 bits, models of 7 billion weights and more come
        close to full precision, with the paper's budget (recipe efficientqat-w2g64-paper) and a GPU."""
    else:
        words = f"""At {bits} bits the loss against full precision is far smaller than at 2, also without training; training regains a part
        of it. With this small budget, do not expect the published figures: those come from larger models and a GPU."""
    print(textwrap.fill(" ".join(words.split()), 110))
    print(textwrap.fill("Full precision here means the published file's 4-bit weights (Q4_1), dequantized: its perplexity does not compare "
                        "with published ones.", 110))


if __name__ == "__main__":
    main()
