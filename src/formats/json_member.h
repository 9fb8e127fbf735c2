// Changes to the text of a JSON object that leave every other byte as it was.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace crumb::formats {

/// `json` (an object's text) with the top-level member `key` set to `value_json`, all other bytes kept:
/// number spellings, order and white space of a config.json survive. Throws Corrupt when the text is no JSON
/// object.
std::string set_json_member(std::string_view json, std::string_view key, std::string_view value_json);

/// The text of a value as a top-level member has it: indented by two, its later lines by two more.
std::string member_text(const nlohmann::ordered_json& value);

/// Without the member `key`, and the comma that goes with it; the text itself where there is none.
std::string erase_json_member(std::string_view json, std::string_view key);

}  // namespace crumb::formats
