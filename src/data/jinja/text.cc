#include "data/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <functional>

#include "base/str.h"
#include "data/utf8.h"

namespace crumb::data::jinja {
namespace {

std::uint32_t code_point(std::string_view character) {
  return utf8_code_point(character, 0, character.size());
}

bool is_space(std::string_view character) {
  const std::uint32_t code = code_point(character);
  return is_white_space(code) || (code >= 0x1C && code <= 0x1F);  // str.isspace takes the separators too
}

std::string mapped(std::string_view text, const std::function<std::int32_t(std::int32_t)>& map) {
  std::string out;
  for (const std::string& character : characters(text))
    append_utf8(out, static_cast<std::uint32_t>(map(static_cast<std::int32_t>(code_point(character)))));
  return out;
}

/// Upper case behind a character for which `begins` is true and at the beginning, lower case elsewhere.
std::string titled(std::string_view text, const std::function<bool(std::string_view)>& begins) {
  std::string out;
  bool first = true;
  for (const std::string& character : characters(text)) {
    out += first ? upper(character) : lower(character);
    first = begins(character);
  }
  return out;
}

bool is_letter(std::string_view character) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code_point(character)));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

}  // namespace

std::string strip(std::string_view text, const Value& set, bool left, bool right) {
  std::vector<std::string> chosen;
  const bool space = set.is_undefined() || set.is_none();
  if (!space) {
    if (!set.is_string()) throw TypeFault{cat("characters to strip are a string, not ", set.type_name())};
    chosen = characters(set.as_string());
  }
  const std::vector<std::string> all = characters(text);
  const auto goes = [&](const std::string& character) {
    return space ? is_space(character) : std::find(chosen.begin(), chosen.end(), character) != chosen.end();
  };
  std::size_t begin = 0, end = all.size();
  while (left && begin < end && goes(all[begin])) ++begin;
  while (right && end > begin && goes(all[end - 1])) --end;
  std::string out;
  for (; begin < end; ++begin) out += all[begin];
  return out;
}

std::string upper(std::string_view text) {
  return mapped(text, utf8proc_toupper);
}
std::string lower(std::string_view text) {
  return mapped(text, utf8proc_tolower);
}
std::string capitalize(std::string_view text) {
  return titled(text, [](std::string_view) { return false; });
}
std::string title_method(std::string_view text) {
  return titled(text, [](std::string_view character) { return !is_letter(character); });
}
std::string title_filter(std::string_view text) {
  return titled(text, [](std::string_view character) {
    return is_space(character) || std::string_view("-({[<").find(character) != std::string_view::npos;
  });
}

std::string replace(std::string_view text, std::string_view old, std::string_view by, std::int64_t count) {
  std::string out;
  if (old.empty()) {  // before each character and at the end
    const std::vector<std::string> all = characters(text);
    for (std::size_t i = 0; i <= all.size(); ++i) {
      if (count < 0 || static_cast<std::int64_t>(i) < count) out += by;
      check_length(out.size());
      if (i < all.size()) out += all[i];
    }
    return out;
  }
  for (std::int64_t done = 0; count < 0 || done < count; ++done) {
    const std::size_t found = text.find(old);
    if (found == std::string_view::npos) break;
    out += text.substr(0, found);
    out += by;
    check_length(out.size());
    text.remove_prefix(found + old.size());
  }
  return out + std::string(text);
}

std::vector<Value> split(std::string_view text, const Value& separator, std::int64_t most, bool from_right) {
  std::vector<std::string> parts;
  const auto full = [&] { return most >= 0 && static_cast<std::int64_t>(parts.size()) == most; };
  if (separator.is_undefined() || separator.is_none()) {
    std::vector<std::string> all = characters(text);
    if (from_right) std::reverse(all.begin(), all.end());
    std::size_t at = 0;
    const auto skip = [&] {
      while (at < all.size() && is_space(all[at])) ++at;
    };
    for (skip(); at < all.size(); skip()) {
      const bool rest = full();
      std::vector<std::string> word;
      while (at < all.size() && (rest || !is_space(all[at]))) word.push_back(all[at++]);
      while (rest && !word.empty() && is_space(word.back())) word.pop_back();
      if (from_right) std::reverse(word.begin(), word.end());
      parts.push_back(join(word, ""));
    }
  } else {
    if (!separator.is_string() || separator.as_string().empty())
      throw TypeFault{"split() wants a separator that is no empty string"};
    const std::string& by = separator.as_string();
    while (!full()) {
      const std::size_t found = from_right ? text.rfind(by) : text.find(by);
      if (found == std::string_view::npos) break;
      parts.emplace_back(from_right ? text.substr(found + by.size()) : text.substr(0, found));
      text = from_right ? text.substr(0, found) : text.substr(found + by.size());
    }
    parts.emplace_back(text);
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  std::vector<Value> out;
  for (std::string& part : parts) out.emplace_back(std::move(part));
  return out;
}

}  // namespace crumb::data::jinja
