#!/usr/bin/env bash
# Does a 7B model pass through 24 GB? Two blocks of Llama-2-7B's shapes with random weights: Block-AP, E2E-QP by KL, output; then the peak memory of
# each piece. More blocks add packed weights (55 MB each at 2 bits) and one window of hidden states each to E2E-QP, and nothing to Block-AP.
#
#   bench/seven_b_blocks.sh [THREADS]            0 or nothing: every core; needs 4 GB in TMPDIR and python3; some minutes
#
# Fails when the peak is not below 24 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
crumb="${CRUMB:-build/release/crumb}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
windows=8 tokens=512
python3 bench/random_llama.py "$folder" --blocks 2 --windows "$windows" --tokens "$tokens"
"$crumb" quantize "$folder/model" -o "$folder/out" --recipe efficientqat-w2g64 --calib "$folder/tokens.safetensors" --device cpu --threads "${1:-0}" \
  --set calibration.samples="$windows" --set calibration.validation_samples=2 --set calibration.tokens="$tokens" --set block_ap.epochs=1 \
  --set e2e_qp.samples=2 --set e2e_qp.tokens="$tokens" --set e2e_qp.steps=2 --json >"$folder/report.json"
python3 - "$folder/report.json" <<'PYTHON'
import json
import sys

report = json.load(open(sys.argv[1]))
gigabytes = lambda piece: f"{piece['peak_rss_bytes'] / 1e9:6.2f} GB peak, {piece['seconds']:7.1f} s"
for block in report["blocks"]:
    print(f"block {block['block']}:  {gigabytes(block)}, loss {block['first_loss']:.3g} -> {block['last_loss']:.3g}")
print(f"E2E-QP:   {gigabytes(report['e2e_qp'])}, loss {report['e2e_qp']['losses'][0]:.4f} -> {report['e2e_qp']['losses'][-1]:.4f}")
print(f"total:    {gigabytes(report['total'])}, {report['threads']} threads, {report['precision']['block_ap']}, "
      f"{report['output']['file_bytes'] / 1e6:.0f} MB written, {report['output']['bits_per_linear_weight']:.2f} bits per block weight")
sys.exit(0 if report["total"]["peak_rss_bytes"] < 24e9 else "the peak is not below 24 GB")
PYTHON
