// Lines of standard input, interruptible.
#pragma once
#include <optional>
#include <string>

namespace crumb::cli {

class LineReader {
 public:
  /// The next line without its line feed; nullopt at the end of the input, or when a signal came
  /// (base/interrupt.h tells which of them it was). Throws Io.
  std::optional<std::string> next();

 private:
  std::string rest_;
  bool ended_ = false;
};

}  // namespace crumb::cli
