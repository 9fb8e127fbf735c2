# build_preset PRESET: configures and builds. Sourced, from the repository root.

# Jobs at once: every core, but no more than the memory allows: a file with torch's headers takes up to 1.5 GB.
build_jobs() {
  local cores available
  cores=$(nproc)
  available=$(awk '/^MemAvailable/ { print int($2 / 1024 / 1600) }' /proc/meminfo)
  [ "$available" -ge 1 ] || available=1
  echo $((cores < available ? cores : available))
}

build_preset() {
  cmake --preset "$1" >/dev/null
  cmake --build --preset "$1" -j "$(build_jobs)"
}
