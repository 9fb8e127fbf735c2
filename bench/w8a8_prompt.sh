#!/usr/bin/env bash
# Speed on a prompt of a model of 8-bit weights, one scale a row, that runs with 8-bit activations per token (docs/runtime.md), against the same shape as f32
# and bf16 in crumb and as Q8_0 in llama.cpp (prebuilt in the xllamacpp wheel): same threads, all programs loaded at once and measured round by round in turn.
# Models have random weights. Prints medians, and ratios formed in each round, as a table in Markdown. Rounds during which other programs had 10 % of the
# machine or more do not count where there are quieter ones.
#
#   bench/w8a8_prompt.sh [--shape 1b] [--blocks N] [--rounds 5] [--threads N] [--prompt 512] [--isa SET] [--json FILE]
#
# The first run puts the wheel under .deps/clients/llamacpp (0.2 GB) and the models under build/bench-models (1b: 10 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
source bench/llamacpp_env.sh
exec "$python" bench/w8a8_prompt.py "$@"
