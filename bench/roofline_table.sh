#!/usr/bin/env bash
# What `crumb roofline` predicts beside what `crumb bench` measures, model by model in one run: three sizes, three bit widths, random weights. Prints a table in
# Markdown for docs/roofline.md and writes the picture of the last model. Each round asks for a prediction (which measures the machine anew) and for a
# measurement, so that both see the same minute; medians of the rounds, ratios formed in each.
#
#   bench/roofline_table.sh [--crumb build/release/crumb] [--shapes 135m,1b,3b] [--bits 2,3,4] [--rounds 3] [--threads N] [--prompt 512] [--gen 64] [--plot FILE.svg]
#
# The models are those of bench/against_llamacpp.sh, under build/bench-models (1b: 1 GB, 3b: 3 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 bench/roofline_table.py "$@"
