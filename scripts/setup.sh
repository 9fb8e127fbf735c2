#!/usr/bin/env bash
# Installs what a build of crumb needs and is not there: Debian packages (as root or through sudo) and the pinned torch wheel, unpacked
# under .deps/. A second run does nothing and needs no network.
#
#   scripts/setup.sh              packages and torch for CPUs (543 MB download, 1.2 GB unpacked)
#   scripts/setup.sh --no-torch   packages only, for -DCRUMB_TORCH=OFF
#   scripts/setup.sh --cuda       also the CUDA libraries that torch needs on a GPU (about 2.5 GB more)
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/wheels.sh

torch=1
cuda=0
for argument in "$@"; do
  case "$argument" in
    --no-torch) torch=0 ;;
    --cuda) cuda=1 ;;
    -h|--help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option '$argument'; expected --no-torch or --cuda" ;;
  esac
done
[ "$(uname -m)" = x86_64 ] || [ "$torch" = 0 ] || die "this machine is $(uname -m); the pinned torch wheel is for x86_64; use --no-torch"

packages=(g++ cmake ninja-build pkg-config python3 python3-pip python3-venv ca-certificates libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev
  libsentencepiece-dev libonig-dev libutf8proc-dev libzstd-dev zlib1g-dev libssl-dev libcurl4-openssl-dev libgtest-dev libgmock-dev
  libonnx-dev libprotobuf-dev libsimde-dev ccache)

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "these Debian packages are missing, and there is neither root nor sudo to install them: ${missing[*]}"
    as_root=(sudo)
  fi
  command -v apt-get >/dev/null || die "no apt-get here; install what corresponds to: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq >/dev/null || say "apt-get update failed; trying with the lists that are there"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get could not install: ${missing[*]}"
}

# unpack_once STAMP WHEEL...: into .deps/torch, unless the stamp says that just these lie there.
unpack_once() {
  local stamp=".deps/torch/$1"
  shift
  local wheel wanted=""
  for wheel in "$@"; do wanted+="$(wheel_file "$wheel") $(wheel_sha256 "$wheel")"$'\n'; done
  if [ -f "$stamp" ] && [ "$(cat "$stamp")"$'\n' = "$wanted" ]; then return 0; fi
  for wheel in "$@"; do fetch_wheel "$wheel"; done
  mkdir -p .deps/torch
  for wheel in "$@"; do
    say "unpacking $wheel"
    python3 -m zipfile -e ".deps/wheels/$(wheel_file "$wheel")" .deps/torch
  done
  printf '%s' "$wanted" >"$stamp.part"
  mv "$stamp.part" "$stamp"
}

install_packages
if [ "$torch" = 1 ]; then
  [ -f .deps/torch/.crumb-cpu-wheels ] || need_space 2500 "the torch wheel and its unpacked files"
  unpack_once .crumb-cpu-wheels torch nvidia-cuda-cupti nvidia-cuda-runtime
fi
if [ "$cuda" = 1 ]; then
  [ -f .deps/torch/.crumb-cuda-wheels ] || need_space 8000 "the CUDA wheels and their unpacked files"
  unpack_once .crumb-cuda-wheels "${cuda_wheels[@]}"
fi
say "ready"
