// Logging and progress go to standard error, results to standard output. CRUMB_LOG=debug|info|warn|error|off
// sets the level.
#pragma once
#include <functional>
#include <string>

#include "base/str.h"

namespace crumb::log {

enum class Level { kDebug, kInfo, kWarn, kError, kOff };

/// Reads CRUMB_LOG; unknown values mean info. Called once by main.
void set_level_from_environment();
void set_level(Level level);
bool enabled(Level level);
void write(Level level, const std::string& message);

/// Keeps `line` (cut to the width) below the messages while standard error is a terminal, until the next
/// call;
/// "" takes it away. Nothing elsewhere, or when information is not shown.
void set_status(const std::string& line);

/// A test may take the messages instead of standard error; nullptr gives them back.
void capture(std::function<void(Level, const std::string&)> sink);

template <class... Parts>
void debug(const Parts&... parts) {
  if (enabled(Level::kDebug)) write(Level::kDebug, cat(parts...));
}
template <class... Parts>
void info(const Parts&... parts) {
  if (enabled(Level::kInfo)) write(Level::kInfo, cat(parts...));
}
template <class... Parts>
void warn(const Parts&... parts) {
  if (enabled(Level::kWarn)) write(Level::kWarn, cat(parts...));
}
template <class... Parts>
void error(const Parts&... parts) {
  if (enabled(Level::kError)) write(Level::kError, cat(parts...));
}

}  // namespace crumb::log
