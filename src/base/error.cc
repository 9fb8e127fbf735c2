#include "base/error.h"

namespace crumb {

int exit_code(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
      return 2;
    case ErrorKind::kNotFound:
      return 3;
    case ErrorKind::kCorrupt:
      return 4;
    case ErrorKind::kUnsupported:
      return 5;
    case ErrorKind::kIo:
      return 6;
    case ErrorKind::kNumerics:
      return 7;
    case ErrorKind::kOutOfMemory:
      return 8;
    case ErrorKind::kInterrupted:
      return 130;
  }
  return 1;
}

std::string_view to_string(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
      return "invalid argument";
    case ErrorKind::kNotFound:
      return "not found";
    case ErrorKind::kCorrupt:
      return "corrupt";
    case ErrorKind::kUnsupported:
      return "unsupported";
    case ErrorKind::kIo:
      return "input/output";
    case ErrorKind::kNumerics:
      return "numerics";
    case ErrorKind::kOutOfMemory:
      return "out of memory";
    case ErrorKind::kInterrupted:
      return "interrupted";
  }
  return "error";
}

}  // namespace crumb
