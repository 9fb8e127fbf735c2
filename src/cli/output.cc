#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/command.h"

namespace crumb::cli {

void print_line(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fputc('\n', stdout) == EOF ||
      std::fflush(stdout) != 0) {
    fail(ErrorKind::kIo, "cli.output", "standard output: ", std::strerror(errno),
         "; the result was not written");
  }
}

void print_json(const nlohmann::ordered_json& value) {
  print_line(value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

std::string align_right(const std::string& text, std::size_t width) {
  return std::string(text.size() < width ? width - text.size() : 0, ' ') + text;
}

}  // namespace crumb::cli
