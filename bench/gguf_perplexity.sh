#!/usr/bin/env bash
# Perplexity of exported GGUF files by llama.cpp itself (prebuilt in the xllamacpp wheel) beside `crumb eval` of the model that they were made from, on the same
# windows of token ids. A file of F32 tensors, if one is among them, shows what llama.cpp's int8 activations cost in the others: it has none.
#
#   bench/gguf_perplexity.sh MODEL FILE.gguf... --tokens FILE.safetensors:NAME [--windows N] [--threads N]
#
# CRUMB=PATH names another crumb than build/no-torch/crumb. The first run puts the wheel under .deps/clients/llamacpp (0.2 GB).
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
venv="${CRUMB_LLAMACPP_VENV:-$root/.deps/clients/llamacpp}"
crumb="${CRUMB:-$root/build/no-torch/crumb}"
if [ $# -lt 4 ]; then
  sed -n '5p' "$0" | cut -c3- >&2
  exit 2
fi
[ -f "$venv/ready" ] || "$root/scripts/clients.sh" llamacpp
model="$1"
shift
files=()
while [ $# -gt 0 ] && [[ "$1" != --* ]]; do
  files+=("$1")
  shift
done
echo "crumb eval --exact --head-bits 0 (f32 activations):"
"$crumb" eval "$model" --exact --head-bits 0 --json "$@"
echo "crumb eval (int8 activations, head and embedding as the model says):"
"$crumb" eval "$model" --json "$@"
echo "llama.cpp:"
"$venv/bin/python" "$root/bench/clients/llamacpp_perplexity.py" "${files[@]}" "$@"
