#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

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
  logger().log(to_spdlog(level), message);
}

void capture(std::function<void(Level, const std::string&)> sink) {
  g_capture = std::move(sink);
}

}  // namespace crumb::log
