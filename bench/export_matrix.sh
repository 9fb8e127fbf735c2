#!/usr/bin/env bash
# Exports small models of every grid, and a trained one, to every format, loads the results in real clients and writes docs/formats/support.md and
# bench/export_matrix.json. Which clients: those named, with the scripts of ../shared/clients.
#
#   bench/export_matrix.sh [--heavy] [--crumb BINARY] [--trained DIR --text FILE]
#
#   --heavy     also the clients that need torch: compressed-tensors, GPTQModel, auto-round (about 7 GB under .deps/clients)
set -euo pipefail
cd "$(dirname "$0")/.."
clients=(llamacpp onnxruntime mlx)
crumb=build/release/crumb
more=()
while [ $# -gt 0 ]; do
  case "$1" in
    --heavy) clients+=(compressed_tensors gptqmodel auto_round) ;;
    --crumb) crumb="$2"; shift ;;
    *) more+=("$1") ;;
  esac
  shift
done
scripts/clients.sh "${clients[@]}"
python=.deps/clients/llamacpp/bin/python
status=0
"$python" bench/export_matrix.py --crumb "$crumb" --clients ../shared/clients --json bench/export_matrix.json "${more[@]}" || status=$?
"$python" bench/support_page.py
exit "$status"
