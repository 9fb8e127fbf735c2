# Sourced from the repository's root by the scripts that measure crumb beside llama.cpp: $python has the xllamacpp wheel, build/no-torch/crumb is there.
scripts/clients.sh llamacpp
python=.deps/clients/llamacpp/bin/python
if [ ! -x build/no-torch/crumb ]; then
  cmake --preset no-torch >/dev/null
  cmake --build --preset no-torch --target crumb >&2
fi
