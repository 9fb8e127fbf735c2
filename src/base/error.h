// The one exception type for the world's faults: bad arguments, files, recipes, numerics. Our own bugs are
// base/check.h.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/str.h"

namespace crumb {

/// By whose fault it is. Each kind has its own exit code (see exit_code).
enum class ErrorKind {
  kInvalidArgument,  // an option, a recipe key, a combination that cannot work
  kNotFound,         // a file, a tensor, a name that is not there
  kCorrupt,          // a file that contradicts itself or its format
  kUnsupported,      // well-formed, but not something this build can do
  kIo,               // reading, writing, full disk, no permission
  kNumerics,         // NaN or infinity where a finite number is needed
  kOutOfMemory,      // estimated or real
  kInterrupted,      // Ctrl-C; state kept
};

/// Exit code of the program for a kind: InvalidArgument 2, NotFound 3, Corrupt 4, Unsupported 5, Io 6,
/// Numerics 7, OutOfMemory 8, Interrupted 130 (as shells report SIGINT).
int exit_code(ErrorKind kind) noexcept;
std::string_view to_string(ErrorKind kind) noexcept;

/// what() is the whole sentence: "[room.function] subject: what was found; what was expected; what to do."
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

/// Throws Error with the message "[where] " + the parts, printed one after the other.
template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, std::string_view where, const Parts&... parts) {
  throw Error(kind, cat("[", where, "] ", parts...));
}

}  // namespace crumb
