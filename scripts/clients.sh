#!/usr/bin/env bash
# Virtual environments with the programs that load crumb's exports, one each, under .deps/clients/NAME. What is there already is kept.
#
#   scripts/clients.sh NAME...      light, without torch: llamacpp, onnxruntime, mlx
#                                   with torch (4.5 GB, shared): compressed_tensors, auto_round, gptqmodel
set -euo pipefail
cd "$(dirname "$0")/.."
base="$PWD/.deps/clients"
declare -A packages=(
  [llamacpp]="xllamacpp==2026.10.11549 numpy==2.4.6 safetensors==0.8.0"
  [onnxruntime]="onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6 safetensors==0.8.0"
  [mlx]="mlx[cpu]==0.32.4 mlx-lm==0.32.2 transformers==5.23.0 tokenizers==0.23.3 safetensors==0.8.0 numpy==2.4.6"
  [compressed_tensors]="compressed-tensors==0.20.0 transformers==5.23.0 tokenizers==0.23.3 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6"
  [auto_round]="auto-round==0.16.1 auto-round-lib==0.14.1 transformers==5.23.0 tokenizers==0.23.3 accelerate==1.15.0 safetensors==0.8.0"
  [gptqmodel]="gptqmodel==7.6.0 optimum==2.3.0 transformers==5.23.0 tokenizers==0.23.3 accelerate==1.15.0 safetensors==0.8.0"
)
die() { echo "clients.sh: error: $*" >&2; exit 1; }

# Made under another name, so that a broken installation is never taken for a whole one.
# install NAME PACKAGE...
install() {
  local name="$1" venv="$base/$1"
  shift
  local list="$*"
  [ "$(cat "$venv/ready" 2>/dev/null)" = "$list" ] && return
  rm -rf "$venv"
  python3 -m venv "$venv" || die "python3 -m venv failed; install python3-venv"
  if [ "$name" != torch ] && [ -n "${torch:-}" ]; then
    # pip takes packages that it sees through a .pth file for installed.
    local site="$(echo "$venv"/lib/python3*/site-packages)" shared="$base/torch/shared"
    mkdir -p "$shared"
    for package in "$torch"/torch* "$torch"/functorch "$torch"/nvidia* "$torch"/triton* "$torch"/cuda*; do
      [ -e "$package" ] && ln -sfn "$package" "$shared/"
    done
    echo "$shared" >"$site/shared_torch.pth"
    set -- "$@" torch==2.11.0
  fi
  "$venv/bin/pip" install --quiet --disable-pip-version-check --find-links .deps/wheels "$@" >&2 || die "$name: pip failed; see above"
  echo "$list" >"$venv/ready"
}

[ $# -gt 0 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
for name in "$@"; do
  [ -n "${packages[$name]:-}" ] || die "'$name' is no client; expected one of ${!packages[*]}"
  torch=""
  case "$name" in
    compressed_tensors|auto_round|gptqmodel)
      install torch torch==2.11.0
      torch="$(echo "$base"/torch/lib/python3*/site-packages)"
      ;;
  esac
  read -r -a wanted <<<"${packages[$name]}"
  install "$name" "${wanted[@]}"
done
