// Python's string operations on UTF-8, shared by filters and methods.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/jinja/value.h"

namespace crumb::data::jinja {

/// str.strip and its halves: white space (Unicode's and the ASCII separators), or the characters of `set`.
std::string strip(std::string_view text, const Value& set, bool left, bool right);
/// One character to one character (Python's special cases, such as ß to SS, stay as they are).
std::string upper(std::string_view text);
std::string lower(std::string_view text);
/// First character upper, the rest lower.
std::string capitalize(std::string_view text);
/// capitalize() of each word, cut as str.title() (letters) or as the filter (white space, - and brackets).
std::string title_method(std::string_view text);
std::string title_filter(std::string_view text);
/// At most `count` of them; below 0: all.
std::string replace(std::string_view text, std::string_view old, std::string_view by, std::int64_t count);
/// str.split, or str.rsplit with `from_right`; an undefined or none separator: at white space.
std::vector<Value> split(std::string_view text, const Value& separator, std::int64_t most, bool from_right);

}  // namespace crumb::data::jinja
