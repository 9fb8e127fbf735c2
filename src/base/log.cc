#include "base/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace crumb::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
    case Level::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto created = spdlog::stderr_color_mt("crumb");
    created->set_pattern("%^%L%$ %H:%M:%S %v");
    return created;
  }();
  return *instance;
}

std::function<void(Level, const std::string&)> g_capture;

// The line under the messages. Messages and status come from one thread, the one that runs the command.
std::string g_status;

bool status_is_shown() {
  static const bool terminal = ::isatty(STDERR_FILENO) == 1;
  return terminal && !g_capture && logger().should_log(spdlog::level::info);
}

void erase_status() {
  std::fputs("\r\033[K", stderr);
}

void draw_status() {
  winsize window{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1;
  const std::size_t width = known ? window.ws_col - 1u : 79u;
  std::fputs(g_status.substr(0, width).c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

void set_level_from_environment() {
  const char* text = std::getenv("CRUMB_LOG");
  const std::string_view word = text == nullptr ? "info" : text;
  set_level(word == "debug"   ? Level::kDebug
            : word == "warn"  ? Level::kWarn
            : word == "error" ? Level::kError
            : word == "off"   ? Level::kOff
                              : Level::kInfo);
}

void set_level(Level level) {
  logger().set_level(to_spdlog(level));
}
bool enabled(Level level) {
  return g_capture != nullptr || logger().should_log(to_spdlog(level));
}

void write(Level level, const std::string& message) {
  if (g_capture) {
    g_capture(level, message);
    return;
  }
  const bool status = !g_status.empty() && enabled(level);
  if (status) erase_status();
  logger().log(to_spdlog(level), message);
  if (status) draw_status();
}

void set_status(const std::string& line) {
  if (!status_is_shown() || line == g_status) return;
  g_status = line;
  erase_status();
  draw_status();
}

void capture(std::function<void(Level, const std::string&)> sink) {
  g_capture = std::move(sink);
}

}  // namespace crumb::log
