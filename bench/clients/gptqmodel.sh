#!/usr/bin/env bash
# Loads a directory that crumb wrote with GPTQModel (fp16) and compares its logits with those of an independent dequantization in fp32
# (numpy and transformers), and the mean NLL of both with `crumb eval`.
#
#   bench/clients/gptqmodel.sh DIR TOKENS.safetensors:NAME [COUNT]      COUNT tokens from the start, default 512
#
# The client and its packages (about 5 GB with its torch) go to .deps/clients/gptqmodel on first use. Exit 0 within the tolerance
# (largest |logit difference| 0.2, mean KL 1e-4: what fp16 arithmetic in the client explains on a 135M model), 1 beyond.
set -euo pipefail
directory="$(realpath "$1")" tokens="$(realpath "${2%:*}"):${2##*:}" count="${3:-512}"
cd "$(dirname "$0")/../.."
venv=.deps/clients/gptqmodel
scripts/clients.sh gptqmodel
"$venv/bin/python" bench/clients/gptqmodel_logits.py "$directory" "$tokens" "$count"
build/release/crumb eval "$directory" --tokens "$tokens" --context "$count" --windows 1 --json 2>/dev/null |
  python3 -c 'import json, sys; print("crumb eval: mean NLL %.6f" % json.load(sys.stdin)["nll"])'
