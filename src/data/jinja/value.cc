#include "data/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/str.h"
#include "data/utf8.h"

namespace crumb::data::jinja {
namespace {

/// repr(float): the shortest digits that read back, an exponent below 1e-4 and from 1e16 on.
std::string float_text(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
  const double size = std::abs(x);
  const bool scientific = size != 0 && (size < 1e-4 || size >= 1e16);
  char buffer[400];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, x,
                                 scientific ? std::chars_format::scientific : std::chars_format::fixed)
                       .ptr;
  std::string text(buffer, end);
  if (!scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string string_repr(std::string_view text) {
  const char quote =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\\' || c == quote)
      out += {'\\', c};
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      constexpr char kHex[] = "0123456789abcdef";
      out += {'\\', 'x', kHex[(c >> 4) & 15], kHex[c & 15]};
    } else {
      out += c;
    }
  }
  return out + quote;
}

void append_json(const Value& value, int indent, int depth, bool sort_keys, std::string& out) {
  const auto line = [&](int levels) {
    if (indent >= 0) out += "\n" + std::string(static_cast<std::size_t>(indent * levels), ' ');
  };
  const std::string_view comma = indent >= 0 ? "," : ", ";
  if (value.is_none()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.truth() ? "true" : "false";
  } else if (value.is_int()) {
    out += cat(value.as_int());
  } else if (value.is_float()) {
    const double x = value.as_double();
    out += std::isnan(x) ? "NaN" : std::isinf(x) ? (x < 0 ? "-Infinity" : "Infinity") : float_text(x);
  } else if (value.is_string()) {
    out += nlohmann::json(value.as_string()).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  } else if (value.is_list() && !value.as_list().generator) {
    if (value.items().empty()) {
      out += "[]";
      return;
    }
    out += '[';
    bool first = true;
    for (const Value& item : value.items()) {
      if (!first) out += comma;
      first = false;
      line(depth + 1);
      append_json(item, indent, depth + 1, sort_keys, out);
    }
    line(depth);
    out += ']';
  } else if (value.is_dict() && !value.as_dict().object) {
    auto items = value.as_dict().items;
    if (items.empty()) {
      out += "{}";
      return;
    }
    if (sort_keys)
      std::stable_sort(items.begin(), items.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
    out += '{';
    bool first = true;
    for (const auto& [key, item] : items) {
      if (!first) out += comma;
      first = false;
      line(depth + 1);
      append_json(Value(key), -1, 0, false, out);
      out += ": ";
      append_json(item, indent, depth + 1, sort_keys, out);
    }
    line(depth);
    out += '}';
  } else {
    throw TypeFault{cat("a value of type ", value.type_name(), " has no JSON form")};
  }
}

}  // namespace

const Value* Dict::find(std::string_view key) const {
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.first == key; });
  return found == items.end() ? nullptr : &found->second;
}

void Dict::set(std::string_view key, Value value) {
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.first == key; });
  if (found != items.end())
    found->second = std::move(value);
  else
    items.emplace_back(std::string(key), std::move(value));
}

Value Value::from_json(const nlohmann::ordered_json& json) {
  if (json.is_null()) return None{};
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_array()) {
    std::vector<Value> items;
    for (const auto& item : json) items.push_back(from_json(item));
    return list(std::move(items));
  }
  Dict out;
  for (const auto& [key, item] : json.items()) out.set(key, from_json(item));
  return dict(std::move(out));
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return as_double() != 0;
  if (is_string()) return !as_string().empty();
  if (is_list()) return as_list().generator || !items().empty();
  if (is_dict()) return as_dict().object || !as_dict().items.empty();
  return true;
}

std::string_view Value::type_name() const {
  constexpr std::string_view kNames[] = {"Undefined", "NoneType", "bool", "int",     "float",
                                         "str",       "list",     "dict", "function"};
  if (is_list() && as_list().tuple) return "tuple";
  if (is_list() && as_list().generator) return "generator";
  if (is_dict() && as_dict().object) return "Namespace";
  return kNames[v_.index()];
}

std::string Value::text() const {
  if (is_undefined()) return "";
  return is_string() ? as_string() : repr();
}

std::string Value::repr() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "None";
  if (is_bool()) return truth() ? "True" : "False";
  if (is_int()) return cat(as_int());
  if (is_float()) return float_text(as_double());
  if (is_string()) return string_repr(as_string());
  if (is_list() && !as_list().generator) {
    const bool tuple = as_list().tuple;
    std::string out(1, tuple ? '(' : '[');
    for (const Value& item : items()) out += cat(out.size() > 1 ? ", " : "", item.repr());
    if (tuple && items().size() == 1) out += ',';
    return out + (tuple ? ')' : ']');
  }
  if (is_dict() && !as_dict().object) {
    std::string out = "{";
    for (const auto& [key, item] : as_dict().items)
      out += cat(out.size() > 1 ? ", " : "", string_repr(key), ": ", item.repr());
    return out + "}";
  }
  throw TypeFault{cat("a value of type ", type_name(), " cannot be printed")};
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.as_double() == b.as_double();
  if (a.is_string() && b.is_string()) return a.as_string() == b.as_string();
  if (a.is_list() && b.is_list()) {
    return a.as_list().tuple == b.as_list().tuple &&
           std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(), equal);
  }
  if (a.is_dict() && b.is_dict()) {
    if (&a.as_dict() == &b.as_dict()) return true;
    const auto &x = a.as_dict(), &y = b.as_dict();
    if (x.object || y.object || x.items.size() != y.items.size()) return false;
    return std::all_of(x.items.begin(), x.items.end(), [&](const auto& item) {
      const Value* other = y.find(item.first);
      return other != nullptr && equal(item.second, *other);
    });
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.as_double() < b.as_double();
  if (a.is_string() && b.is_string()) return a.as_string() < b.as_string();
  for (const Value* v : {&a, &b}) {
    if (v->is_undefined()) throw TypeFault{cat("'", v->undefined_name(), "' is undefined")};
  }
  throw TypeFault{cat("values of type ", a.type_name(), " and ", b.type_name(), " have no order")};
}

std::string to_json_text(const Value& value, int indent, bool sort_keys) {
  std::string out;
  append_json(value, indent, 0, sort_keys, out);
  return out;
}

void check_length(std::size_t length) {
  if (length > kLongest)
    throw TypeFault{cat("a value of ", length, " bytes or elements; templates may build ", kLongest)};
}

std::vector<std::string> characters(std::string_view text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = std::max<std::size_t>(utf8_length(text, at), 1);
    out.emplace_back(text.substr(at, length));
    at += length;
  }
  return out;
}

}  // namespace crumb::data::jinja
