#include "cli/run/line_reader.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/interrupt.h"

namespace crumb::cli {

std::optional<std::string> LineReader::next() {
  for (;;) {
    const std::size_t end = rest_.find('\n');
    if (end != std::string::npos || (ended_ && !rest_.empty())) {
      std::string line = rest_.substr(0, end);
      rest_.erase(0, end == std::string::npos ? end : end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return line;
    }
    if (ended_) return std::nullopt;
    char buffer[4096];
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got > 0) {
      rest_.append(buffer, static_cast<std::size_t>(got));
    } else if (got == 0) {
      ended_ = true;
    } else if (errno != EINTR) {
      fail(ErrorKind::kIo, "cli.input", "standard input: ", std::strerror(errno),
           "; the conversation ends here");
    } else if (interrupted()) {
      return std::nullopt;
    }
  }
}

}  // namespace crumb::cli
