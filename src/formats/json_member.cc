#include "formats/json_member.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/json.h"

namespace crumb::formats {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// The end of the JSON value that starts at `at`; the text is valid JSON.
std::size_t value_end(std::string_view text, std::size_t at) {
  int depth = 0;
  bool quoted = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') {
        ++at;
      } else if (c == '"') {
        quoted = false;
      }
      if (!quoted && depth == 0) return at + 1;
      continue;
    }
    if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return at;
      if (--depth == 0) return at + 1;
    } else if (depth == 0 && (c == ',' || is_space(c))) {
      return at;
    }
  }
  return at;
}

std::size_t skip_spaces(std::string_view text, std::size_t at) {
  while (at < text.size() && is_space(text[at])) ++at;
  return at;
}

void check_object(std::string_view text) {
  if (!io::parse_json(text, "config.json").is_object()) {
    fail(ErrorKind::kCorrupt, "formats.json_member",
         "config.json: no JSON object; want the configuration of a model");
  }
}

}  // namespace

std::string set_json_member(std::string_view text, std::string_view key, std::string_view value) {
  check_object(text);
  std::string result(text);
  std::size_t at = skip_spaces(text, text.find('{') + 1), last = text.find('{') + 1;
  while (text[at] != '}') {
    const std::size_t name_end = value_end(text, at);
    const std::string name = nlohmann::json::parse(text.substr(at, name_end - at)).get<std::string>();
    const std::size_t begin = skip_spaces(text, skip_spaces(text, name_end) + 1);  // behind the colon
    const std::size_t end = value_end(text, begin);
    if (name == key) return result.replace(begin, end - begin, value);
    last = end;
    at = skip_spaces(text, end);
    if (text[at] == ',') at = skip_spaces(text, at + 1);
  }
  const bool empty = last == text.find('{') + 1;
  return result.insert(last, cat(empty ? "\n  " : ",\n  ", nlohmann::json(std::string(key)).dump(), ": ",
                                 value, empty ? "\n" : ""));
}

std::string member_text(const nlohmann::ordered_json& value) {
  std::string text = value.dump(2);
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 3)
    text.replace(at, 1, "\n  ");
  return text;
}

std::string erase_json_member(std::string_view text, std::string_view key) {
  check_object(text);
  std::string result(text);
  std::size_t at = skip_spaces(text, text.find('{') + 1), last = text.find('{') + 1;
  while (text[at] != '}') {
    const std::size_t first = at, name_end = value_end(text, at);
    const std::string name = nlohmann::json::parse(text.substr(at, name_end - at)).get<std::string>();
    const std::size_t end = value_end(text, skip_spaces(text, skip_spaces(text, name_end) + 1));
    at = skip_spaces(text, end);
    const bool comma_follows = text[at] == ',';
    if (comma_follows) at = skip_spaces(text, at + 1);
    if (name == key) {
      // The first member takes the comma behind it along, every other one the comma before it.
      const bool is_first = last == text.find('{') + 1;
      return is_first ? result.erase(first, (comma_follows ? at : end) - first)
                      : result.erase(last, end - last);
    }
    last = end;
  }
  return result;
}

}  // namespace crumb::formats
