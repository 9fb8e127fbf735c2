#!/usr/bin/env bash
# Small models quantized by GPTQModel, auto-round, mlx-lm, compressed-tensors and llama.cpp, read by crumb: its logits beside theirs. Writes
# bench/import_matrix.json and docs/formats/support.md. Clients are installed under .deps/clients (about 7 GB), their checks are those of ../shared/clients.
#
#   bench/import_matrix.sh [--crumb BINARY] [--only TEXT]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/clients.sh llamacpp mlx compressed_tensors gptqmodel auto_round
python=.deps/clients/llamacpp/bin/python
status=0
"$python" bench/import_matrix.py --crumb build/release/crumb --clients ../shared/clients --json bench/import_matrix.json "$@" || status=$?
"$python" bench/support_page.py
exit "$status"
