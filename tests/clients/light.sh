#!/usr/bin/env bash
# Small models in every format that a client without torch loads: their logits against crumb's own. Skipped (77) where the clients
# (scripts/clients.sh) or their scripts (../shared/clients) are not there.
#
#   light.sh CRUMB WORK
set -euo pipefail
crumb="$(realpath "$1")" work="$2"
cd "$(dirname "$0")/../.."
for need in .deps/clients/llamacpp/ready .deps/clients/onnxruntime/ready .deps/clients/mlx/ready ../shared/clients/check_gguf.py; do
  [ -e "$need" ] || { echo "skipped: no $need (scripts/clients.sh llamacpp onnxruntime mlx)"; exit 77; }
done
rm -rf "$work"
exec .deps/clients/llamacpp/bin/python bench/export_matrix.py --crumb "$crumb" --clients ../shared/clients --work "$work" --formats gguf,onnx,mlx --only w2g64
