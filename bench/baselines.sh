#!/usr/bin/env bash
# Every method's built-in recipes on SmolLM2-135M with the same calibration rows and windows: perplexities, seconds and peak memory.
#
#   bench/baselines.sh [--tokens N] [--packages] [RECIPE...]      default: all but the defaults' variants; minutes each on two cores. A row that is there is kept.
#
#   --tokens N   the first N tokens of each of the 64 calibration rows (default 128, as the recipes have it; up to 1024)
#   --packages   also GPTQModel and auto-round on the same tokens at 4, 3 and 2 bits (bench/package_baselines.py; about 7 GB under .deps/clients, up to
#                half an hour each), their results measured by crumb eval
#   --bits LIST  of the packages' rows, for example "2 3"
#
# Weight-activation rows with other widths are written RECIPE:NAME:SET[,SET...], for example
#   omniquant-w4a4:omniquant-w4a8:activations.bits=8,activations.kv_bits=8
# Needs build/release/crumb, demo/model (scripts/demo_data.sh) and the golden files (CRUMB_GOLDEN_DIR, else ../shared/golden/efficientqat).
# Results: build/baselines/N/*.json and the table on standard output.
set -euo pipefail
cd "$(dirname "$0")/.."
packages= tokens=128 widths="4 3 2"
while [ $# -gt 0 ]; do
  case "$1" in
    --packages) packages=1; shift ;;
    --tokens) tokens="$2"; shift 2 ;;
    --bits) widths="$2"; shift 2 ;;
    -*) echo "baselines.sh: $1: unknown; expected --tokens N, --packages, --bits LIST or recipes" >&2; exit 2 ;;
    *) break ;;
  esac
done
golden="${CRUMB_GOLDEN_DIR:-../shared/golden/efficientqat}"
out="build/baselines/$tokens"
mkdir -p "$out"
python3 bench/parity_tokens.py "$golden" "$out/tokens.safetensors"
if [ $# -eq 0 ]; then
  set --
  for bits in 4 3 2; do
    for method in rtn gptq awq signround omniquant efficientqat; do set -- "$@" "$method-w${bits}g64"; done
  done
  set -- "$@" smoothquant-w8a8 smoothquant-w8a8-static omniquant-w6a6 omniquant-w4a4 omniquant-w4a4:omniquant-w4a8:activations.bits=8,activations.kv_bits=8,omniquant.let=false \
    omniquant-w4a4:omniquant-w4kv4:activations.bits=16,activations.kv_bits=4,omniquant.let=false omniquant-w4a4:omniquant-w4kv8:activations.bits=16,activations.kv_bits=8,omniquant.let=false \
    rtn-w4g64:rtn-w4a4:weights.group_size=-1,activations.bits=4,activations.kv_bits=4,activations.allow_plain=true \
    rtn-w4g64:rtn-w6a6:weights.bits=6,weights.group_size=-1,activations.bits=6,activations.kv_bits=6,activations.allow_plain=true
fi
for row in "$@"; do
  recipe="$row" name="$row" fields=""
  if [[ "$row" == *:* ]]; then IFS=: read -r recipe name fields <<<"$row"; fi
  [ -s "$out/$name.json" ] && continue
  sets=(--set "calibration.tokens=$tokens")
  if [ -n "$fields" ]; then IFS=, read -r -a list <<<"$fields"; for field in "${list[@]}"; do sets+=(--set "$field"); done; fi
  rm -rf "$out/$name"
  echo "$name" >&2
  build/release/crumb quantize demo/model/SmolLM2-135M-Instruct.Q4_1.gguf -o "$out/$name" --recipe "$recipe" "${sets[@]}" --calib "$out/tokens.safetensors" \
    --eval "$golden/smollm2_eval_tokens.safetensors:wikitext2_test" --eval-context 1024 --json >"$out/$name.part" 2>"$out/$name.log"
  mv "$out/$name.part" "$out/$name.json"
  rm -rf "$out/$name"
done
if [ -n "$packages" ]; then
  scripts/clients.sh gptqmodel auto_round
  floats=build/baselines/float
  mkdir -p "$out/packages"
  [ -s "$floats/config.json" ] || { build/release/crumb export demo/model/SmolLM2-135M-Instruct.Q4_1.gguf --to hf -o "$floats" >&2; }
  for tool in gptqmodel gptqmodel-act-order auto-round; do
    client="${tool%-act-order}"
    for bits in $widths; do
      name="$tool-w${bits}g64"
      [ -s "$out/packages/$name.json" ] && continue
      echo "$name" >&2
      if [ ! -s "$out/packages/$name/config.json" ]; then
        start=$SECONDS
        .deps/clients/"${client//-/_}"/bin/python bench/package_baselines.py "$tool" "$floats" "$out/packages/$name" --tokens "$out/tokens.safetensors" --columns "$tokens" --bits "$bits" >"$out/packages/$name.log" 2>&1
        echo $((SECONDS - start)) >"$out/packages/$name.seconds"
      fi
      build/release/crumb eval "$out/packages/$name" --exact --tokens "$golden/smollm2_eval_tokens.safetensors:wikitext2_test" --context 1024 --json >"$out/packages/$name.part"
      mv "$out/packages/$name.part" "$out/packages/$name.json"
    done
  done
fi
python3 - "$out" <<'TABLE'
import glob, json, os, sys
print("| recipe | rounded without training | result | seconds of the blocks | of E2E-QP | peak memory |\n|---|---|---|---|---|---|")
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.json"))):
    with open(path) as file:
        r = json.load(file)
    stages = {s["stage"]: s for s in r["stages"]}
    cost, e2e = r.get("block_stages", {}), r.get("e2e_qp", {})
    last = r["stages"][-1]
    print(f"| {os.path.basename(path)[:-5]} | {stages['rtn']['ppl']:,.2f} | {last['ppl']:,.2f} | {cost.get('seconds', 0):.0f} | "
          f"{e2e.get('seconds', 0):.0f} | {r['total']['peak_rss_bytes'] / 1e9:.2f} GB |")
for path in sorted(glob.glob(os.path.join(sys.argv[1], "packages", "*.json"))):
    with open(path) as file:
        ppl = json.load(file)["ppl"]
    seconds = path[:-5] + ".seconds"
    spent = open(seconds).read().strip() if os.path.exists(seconds) else "?"
    print(f"| {os.path.basename(path)[:-5]} (package) | | {ppl:,.2f} | {spent} in all | | |")
TABLE
