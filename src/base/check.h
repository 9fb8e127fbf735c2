// Checks for our own bugs. The world's faults are base/error.h.
#pragma once

namespace crumb {

/// Called on a failed CRUMB_CHECK; must not return. A host program may install its own (the default prints
/// and aborts).
using CheckHandler = void (*)(const char* file, int line, const char* expression);
void set_check_handler(CheckHandler handler) noexcept;
[[noreturn]] void check_failed(const char* file, int line, const char* expression) noexcept;

}  // namespace crumb

#define CRUMB_CHECK(expression)                                                \
  do {                                                                         \
    if (!(expression)) ::crumb::check_failed(__FILE__, __LINE__, #expression); \
  } while (false)

#ifdef CRUMB_DCHECKS
#define CRUMB_DCHECK(expression) CRUMB_CHECK(expression)
#else
#define CRUMB_DCHECK(expression) static_cast<void>(0)
#endif
