#!/usr/bin/env bash
# crumb's exports in the clients that load them, those with torch included: installs them under .deps/clients (about 7 GB), builds crumb and
# runs bench/export_matrix.sh on small models. Status 1 when a client disagrees. The light clients alone: a part of ./test.sh.
#
#   ./test_clients.sh [--trained DIR --text FILE]
set -euo pipefail
cd "$(dirname "$0")"
source scripts/build.sh
scripts/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release -j "$(build_jobs)" --target crumb >&2
exec bench/export_matrix.sh --heavy "$@"
