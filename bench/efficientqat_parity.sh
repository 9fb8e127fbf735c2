#!/usr/bin/env bash
# SmolLM2-135M to 2 bits on the token files and the budget of the authors' recorded run: ours beside theirs, then the default recipe on the same
# tokens and steps, then what each of its choices gives.
#
#   bench/efficientqat_parity.sh [--ladder]      --ladder: also one run per choice; about ten minutes each on two cores
#
# Needs build/release/crumb, demo/model (scripts/demo_data.sh) and the golden files (CRUMB_GOLDEN_DIR, else ../shared/golden/efficientqat).
# Results: build/parity/*.json and the table on standard output.
set -euo pipefail
cd "$(dirname "$0")/.."
golden="${CRUMB_GOLDEN_DIR:-../shared/golden/efficientqat}"
out=build/parity
mkdir -p "$out"
python3 bench/parity_tokens.py "$golden" "$out/tokens.safetensors"

run() {  # NAME RECIPE [--set ...]
  local name="$1" recipe="$2"
  shift 2
  build/release/crumb quantize demo/model/SmolLM2-135M-Instruct.Q4_1.gguf -o "$out/$name" --recipe "$recipe" --calib "$out/tokens.safetensors" \
    --eval "$golden/smollm2_eval_tokens.safetensors:wikitext2_test" --eval-context 1024 --json "$@" >"$out/$name.json"
}
parity=bench/efficientqat_parity.json
run parity "$parity"
run default efficientqat-w2g64
if [ "${1:-}" = "--ladder" ]; then
  run search "$parity" --set rounding.method=clip_search
  run search-activation "$parity" --set rounding.method=clip_search_activation
  run search-activation-kl "$parity" --set rounding.method=clip_search_activation --set e2e_qp.loss=kl
fi
python3 bench/parity_table.py "$golden" "$out"
