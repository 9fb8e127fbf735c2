#include "base/check.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace crumb {
namespace {
void print_failure(const char* file, int line, const char* expression) {
  std::fprintf(
      stderr, "%s:%d: CRUMB_CHECK failed: %s\nThis is a bug in crumb, not in your files. Please report it.\n",
      file, line, expression);
}
std::atomic<CheckHandler> g_handler{&print_failure};
}  // namespace

void set_check_handler(CheckHandler handler) noexcept {
  g_handler = handler;
}

void check_failed(const char* file, int line, const char* expression) noexcept {
  g_handler.load()(file, line, expression);
  std::abort();
}

}  // namespace crumb
