#include "base/cache_dir.h"

#include <cstdlib>

namespace crumb {
namespace {

std::filesystem::path from_environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? std::filesystem::path() : std::filesystem::path(value);
}

}  // namespace

std::filesystem::path cache_dir() {
  if (const auto set = from_environment("CRUMB_CACHE"); !set.empty()) return set;
  if (const auto set = from_environment("XDG_CACHE_HOME"); !set.empty()) return set / "crumb";
  if (const auto home = from_environment("HOME"); !home.empty()) return home / ".cache" / "crumb";
  return std::filesystem::temp_directory_path() / "crumb-cache";
}

}  // namespace crumb
