#!/usr/bin/env bash
# Whole-model decode and prompt speed of crumb against llama.cpp (prebuilt in the xllamacpp wheel) on this machine: same shape, same threads, both programs
# loaded at once and measured round by round in turn; medians, and ratios formed in each round. Models have random weights (crumb bench synthesize;
# llama.cpp's by its own quantizer). Prints a table in Markdown. Rounds during which other programs had 10 % of the machine or more do not count where there
# are quieter ones; rows with fewer than 3 quiet rounds are named as such.
#
#   bench/against_llamacpp.sh [--shapes 135m,1b,3b] [--bits 2,3,4] [--rounds 5] [--threads N] [--prompt 512] [--gen 64] [--head-bits 8] [--json FILE]
#
# The first run puts the wheel under .deps/clients/llamacpp (0.2 GB) and the models under build/bench-models (1b: 5 GB, 3b: 12 GB for all of them).
set -euo pipefail
cd "$(dirname "$0")/.."
source bench/llamacpp_env.sh
exec "$python" bench/against_llamacpp.py "$@"
