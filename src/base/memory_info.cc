#include "base/memory_info.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace crumb {
namespace {

std::int64_t field_kib(const char* file, const std::string& name) {
  std::ifstream in(file);
  std::string word;
  while (in >> word) {
    if (word == name) {
      std::int64_t kib = 0;
      in >> kib;
      return kib * 1024;
    }
    in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

std::int64_t number_in(const char* file, std::int64_t otherwise) {
  std::ifstream in(file);
  std::int64_t value = 0;
  return in >> value ? value : otherwise;  // cgroup v2 writes "max" where there is no limit
}

}  // namespace

std::int64_t resident_bytes() {
  return field_kib("/proc/self/status", "VmRSS:");
}
std::int64_t peak_resident_bytes() {
  return field_kib("/proc/self/status", "VmHWM:");
}

bool reset_peak_resident() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5" << std::flush;
  return static_cast<bool>(out);
}

std::int64_t available_bytes() {
  constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();
  std::int64_t available = field_kib("/proc/meminfo", "MemAvailable:");
  if (available == 0) available = kNoLimit;
  const std::int64_t limit = number_in("/sys/fs/cgroup/memory.max", kNoLimit);
  if (limit != kNoLimit) {
    const std::int64_t used = number_in("/sys/fs/cgroup/memory.current", 0);
    available = std::min(available, std::max<std::int64_t>(0, limit - used));
  }
  return available;
}

}  // namespace crumb
