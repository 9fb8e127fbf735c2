// JSON text to values, with the checks that nlohmann::json leaves out by default.
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace crumb::io {

/// Parses `text`; throws Corrupt with `subject`, line and reason. Duplicate keys of one object are an error.
nlohmann::json parse_json(std::string_view text, std::string_view subject);
/// As parse_json, keeping the order of keys: for files that are written back.
nlohmann::ordered_json parse_ordered_json(std::string_view text, std::string_view subject);
/// The whole file as text; throws NotFound or Io.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace crumb::io
