#!/usr/bin/env bash
# Feeds every reader of foreign files with inputs that libFuzzer makes from small seeds, under AddressSanitizer and
# UndefinedBehaviorSanitizer. A crash, a hang of 10 s or an allocation of 1 GB ends with status 1 and the input's file.
#
#   scripts/fuzz.sh [RUNS] [NAME...]      RUNS inputs each, default 1000000; NAME: a corpus (gptq, gguf, onnx …), default: all
set -euo pipefail
export OMP_NUM_THREADS=1
cd "$(dirname "$0")/.."
source scripts/build.sh
runs="${1:-1000000}"
shift || true
scripts/setup.sh --no-torch
command -v clang++ >/dev/null || { echo "fuzz.sh: error: no clang++ here; install clang and libclang-rt (Debian: apt-get install clang)" >&2; exit 2; }
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "$(build_jobs)" >&2
declare -A target=([safetensors]=safetensors [gguf]=gguf [config]=config [onnx]=onnx)
for name in gptq gptq-v1 auto-round compressed-tensors compressed-tensors-asym awq mlx hf; do target[$name]=directory; done
[ $# -gt 0 ] || set -- safetensors gguf config gptq gptq-v1 auto-round compressed-tensors compressed-tensors-asym awq mlx hf onnx
for name in "$@"; do
  found="build/fuzz/found/$name"
  mkdir -p "$found"
  start=$SECONDS
  "build/fuzz/tests/fuzz/fuzz_${target[$name]}" -runs="$runs" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$found/crash-" "$found" "build/fuzz/tests/fuzz/corpus/$name" >"build/fuzz/$name.log" 2>&1 || {
    tail -40 "build/fuzz/$name.log" >&2
    echo "fuzz.sh: error: $name: see build/fuzz/$name.log" >&2
    exit 1
  }
  printf '%-24s %s inputs, %d s, nothing found\n' "$name" "$runs" $((SECONDS - start))
done
