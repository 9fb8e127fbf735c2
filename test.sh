#!/usr/bin/env bash
# All tests, from a clean clone on a bare machine: installs what is missing, builds the release preset, runs every ctest case, then the
# torch-free rooms under AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   ./test.sh [--no-torch]      --no-torch: the no-torch preset instead of release, and no torch download
#   CRUMB_TEST_LOGS=DIR         keep ctest's JUnit files there (default: build/test-logs)
set -euo pipefail
cd "$(dirname "$0")"
source scripts/build.sh

preset=release
setup=()
case "${1:-}" in
  "") ;;
  --no-torch) preset=no-torch; setup=(--no-torch) ;;
  *) echo "test.sh: error: unknown option '$1'; expected --no-torch" >&2; exit 2 ;;
esac
mkdir -p build
logs="$(realpath -m "${CRUMB_TEST_LOGS:-build/test-logs}")"
mkdir -p "$logs"
rm -f "$logs"/*.xml

scripts/setup.sh "${setup[@]}"
# The model and texts of the demo: without them the tests of its tokenizer are skipped, visibly.
scripts/demo_data.sh || echo "test.sh: note: the demo model could not be had; its tests will be skipped" >&2
# The programs that load exports and need no torch: without them the test of label "clients" is skipped, visibly.
scripts/clients.sh llamacpp onnxruntime mlx || echo "test.sh: note: the light clients could not be had; their test will be skipped" >&2
# numpy for the tests that hold the packers to an independent one.
[ -n "${CRUMB_PYTHON:-}" ] || [ ! -f .deps/clients/llamacpp/ready ] || export CRUMB_PYTHON="$PWD/.deps/clients/llamacpp/bin/python"
status=0
# tests PRESET: builds and runs; a failure is kept, so that the other preset is tried too.
tests() {
  printf '\n== %s\n' "$1" >&2
  build_preset "$1" >&2 || { echo "test.sh: error: the $1 preset does not build" >&2; return 1; }
  # One test at a time: many use every core, and some measure.
  ctest --preset "$1" --output-junit "$logs/$1.xml"
}
tests "$preset" || status=1
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
tests asan || status=1
exit $status
