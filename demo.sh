#!/usr/bin/env bash
# From a bare machine to a 2-bit model that you can read: installs what is missing, builds, takes SmolLM2-135M-Instruct to few bits by
# Block-AP and E2E-QP, and shows what that did to it. The first run needs Debian packages and PyPI; later runs work offline.
#
#   ./demo.sh [--bits 2|3|4]     results in demo/out/ and demo/table.json
set -euo pipefail
cd "$(dirname "$0")"

bits=2
while [ $# -gt 0 ]; do
  case "$1" in
    --bits) [ $# -ge 2 ] || { echo "demo.sh: error: --bits needs 2, 3 or 4" >&2; exit 2; }; bits="$2"; shift 2 ;;
    --bits=*) bits="${1#*=}"; shift ;;
    -h|--help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "demo.sh: error: unknown option '$1'; expected --bits 2, 3 or 4" >&2; exit 2 ;;
  esac
done
case "$bits" in 2|3|4) ;; *) echo "demo.sh: error: --bits is '$bits'; expected 2, 3 or 4" >&2; exit 2 ;; esac

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS" >&2; }

step "installing what is missing"
scripts/setup.sh
step "building build/release/crumb"
source scripts/build.sh
cmake --preset release >/dev/null
cmake --build --preset release -j "$(build_jobs)" --target crumb >&2
step "preparing the model and the texts"
scripts/demo_data.sh

crumb=build/release/crumb
model=demo/model/SmolLM2-135M-Instruct.Q4_1.gguf
evaluation=(--eval demo/text/wiki.txt --eval-context 1024 --eval-windows 12)
step "rounding to $bits bits without training, to compare"
"$crumb" quantize "$model" -o demo/out-rtn --recipe rtn-w2g64 --set "weights.bits=$bits" --calib demo/text/calib.jsonl "${evaluation[@]}" --json >demo/rtn.json
step "training to $bits bits: Block-AP, then E2E-QP"
quantize_start=$SECONDS
"$crumb" quantize "$model" -o demo/out --recipe "efficientqat-w${bits}g64" --calib demo/text/calib.jsonl "${evaluation[@]}" --json >demo/report.json
quantize_seconds=$((SECONDS - quantize_start))

step "writing a paragraph with each model"
prompt="The history of the city begins with"
for which in fp rtn trained; do
  case "$which" in fp) from="$model" ;; rtn) from=demo/out-rtn ;; trained) from=demo/out ;; esac
  "$crumb" generate "$from" -p "$prompt" -n 80 --temperature 0.7 --top-p 0.9 --seed 7 --json >"demo/generated-$which.json"
done
python3 scripts/demo_table.py "$bits"
printf '\nquantization took %d s; everything together %d s. The packed model is in demo/out/, the table in demo/table.json.\n' "$quantize_seconds" "$SECONDS"
