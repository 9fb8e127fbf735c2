// `value | …`.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "base/str.h"
#include "data/jinja/builtins.h"
#include "data/jinja/text.h"

namespace crumb::data::jinja {
namespace {

using Filter = Value (*)(const Value& value, Arguments& arguments);

Value argument_or(Arguments& arguments, std::string_view name, Value otherwise) {
  Value out = take_argument(arguments, name);
  return out.is_undefined() ? std::move(otherwise) : out;
}

std::int64_t integer_argument(Arguments& arguments, std::string_view name, std::int64_t otherwise) {
  const Value out = argument_or(arguments, name, Value(otherwise));
  if (!out.is_int() && !out.is_bool())
    throw TypeFault{cat("'", name, "' is ", out.type_name(), "; expected an integer")};
  return out.as_int();
}

/// "a.b.0" of an item.
Value by_path(Value item, const Value& path) {
  if (!path.is_string()) return item_of(item, path);
  for (const Value& part : split(path.as_string(), Value(std::string(".")), -1, false)) {
    const std::string& word = part.as_string();
    const bool digits = !word.empty() && word.size() < 10 &&
                        std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
    item = item_of(item, digits ? Value(static_cast<std::int64_t>(std::stoll(word))) : part);
  }
  return item;
}

Value folded(const Value& value, bool case_sensitive) {
  return value.is_string() && !case_sensitive ? Value(lower(value.as_string())) : value;
}

Value length(const Value& value, Arguments&) {
  if (value.is_number() || value.is_none() || value.is_function() ||
      (value.is_list() && value.as_list().generator) || (value.is_dict() && value.as_dict().object))
    throw TypeFault{cat("a value of type ", value.type_name(), " has no length")};
  return static_cast<std::int64_t>(iterate(value).size());
}

Value joined(const Value& value, Arguments& arguments) {
  const std::string by = argument_or(arguments, "d", Value(std::string())).text();
  const Value attribute = take_argument(arguments, "attribute");
  std::vector<std::string> words;
  std::size_t size = 0;
  for (const Value& item : iterate(value)) {
    words.push_back((attribute.is_undefined() ? item : by_path(item, attribute)).text());
    check_length(size += words.back().size() + by.size());
  }
  return join(words, by);
}

Value default_value(const Value& value, Arguments& arguments) {
  const Value otherwise = argument_or(arguments, "default_value", Value(std::string()));
  const bool falsy_too = take_argument(arguments, "boolean").truth();
  return value.is_undefined() || (falsy_too && !value.truth()) ? otherwise : value;
}

Value to_integer(const Value& value, Arguments& arguments) {
  const Value otherwise = argument_or(arguments, "default", Value(std::int64_t{0}));
  if (integer_argument(arguments, "base", 10) != 10) throw NotKnown{"a base other than 10 of filter 'int'"};
  if (value.is_int() || value.is_bool()) return value.as_int();
  if (value.is_float() && std::abs(value.as_double()) < 9e18)
    return static_cast<std::int64_t>(value.as_double());
  if (!value.is_string()) return otherwise;
  const std::string text = strip(value.as_string(), Value(), true, true);
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  std::int64_t whole = 0;
  if (const auto [end, error] = std::from_chars(begin, text.data() + text.size(), whole);
      error == std::errc() && end == text.data() + text.size())
    return whole;
  double real = 0;
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), real);
  if (error == std::errc() && end == text.data() + text.size() && std::abs(real) < 9e18)
    return static_cast<std::int64_t>(real);
  return otherwise;
}

Value to_float(const Value& value, Arguments& arguments) {
  const Value otherwise = argument_or(arguments, "default", Value(0.0));
  if (value.is_number()) return value.as_double();
  if (!value.is_string()) return otherwise;
  const std::string text = strip(value.as_string(), Value(), true, true);
  double real = 0;
  const auto [end, error] =
      std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0), text.data() + text.size(), real);
  return error == std::errc() && end == text.data() + text.size() ? Value(real) : otherwise;
}

Value to_json(const Value& value, Arguments& arguments) {
  // transformers' own order of arguments.
  if (take_argument(arguments, "ensure_ascii").truth())
    throw NotKnown{"ensure_ascii=true of filter 'tojson'"};
  const Value indent = take_argument(arguments, "indent");
  if (!take_argument(arguments, "separators").is_undefined()) throw NotKnown{"separators of filter 'tojson'"};
  const bool sort_keys = take_argument(arguments, "sort_keys").truth();
  if (!indent.is_undefined() && !indent.is_none() && !indent.is_int())
    throw TypeFault{"'indent' of tojson is no integer"};
  return to_json_text(
      value, indent.is_int() ? static_cast<int>(std::min<std::int64_t>(indent.as_int(), 64)) : -1, sort_keys);
}

Value mapped(const Value& value, Arguments& arguments) {
  std::vector<Value> out;
  if (arguments.positional.empty()) {
    const Value attribute = take_argument(arguments, "attribute"),
                otherwise = take_argument(arguments, "default");
    if (attribute.is_undefined()) throw TypeFault{"map wants a filter's name or attribute="};
    for (const Value& item : iterate(value)) {
      out.push_back(by_path(item, attribute));
      if (out.back().is_undefined() && !otherwise.is_undefined()) out.back() = otherwise;
    }
    return Value::generator(std::move(out));
  }
  const Value name = take_argument(arguments, "name");
  if (!name.is_string()) throw TypeFault{"map wants a filter's name or attribute="};
  const Arguments rest = std::exchange(arguments, {});
  for (const Value& item : iterate(value)) {
    Arguments each = rest;
    out.push_back(apply_filter(name.as_string(), item, each));
  }
  return Value::generator(std::move(out));
}

Value selected(const Value& value, Arguments& arguments, bool attribute, bool wanted) {
  Value path;
  if (attribute) {
    path = take_argument(arguments, "attribute");
    if (path.is_undefined()) throw TypeFault{"selectattr and rejectattr want an attribute's name"};
  }
  Value test;
  if (!arguments.positional.empty()) test = take_argument(arguments, "test");
  if (!test.is_undefined() && !test.is_string())
    throw TypeFault{cat("the name of a test is a string, not ", test.type_name())};
  const Arguments rest = std::exchange(arguments, {});
  std::vector<Value> out;
  for (const Value& item : iterate(value)) {
    const Value looked_at = attribute ? by_path(item, path) : item;
    Arguments each = rest;
    if ((test.is_undefined() ? looked_at.truth() : apply_test(test.as_string(), looked_at, each)) == wanted)
      out.push_back(item);
  }
  return Value::generator(std::move(out));
}

Value sorted(const Value& value, Arguments& arguments) {
  const bool reverse = take_argument(arguments, "reverse").truth(),
             case_sensitive = take_argument(arguments, "case_sensitive").truth();
  const Value attribute = take_argument(arguments, "attribute");
  const auto key = [&](const Value& item) {
    return folded(attribute.is_undefined() ? item : by_path(item, attribute), case_sensitive);
  };
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : iterate(value)) keyed.emplace_back(key(item), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  std::vector<Value> out;
  for (auto& [k, item] : keyed) out.push_back(std::move(item));
  return Value::list(std::move(out));
}

Value dict_sorted(const Value& value, Arguments& arguments) {
  if (!value.is_dict()) throw TypeFault{cat("dictsort wants a dictionary, not ", value.type_name())};
  const bool case_sensitive = take_argument(arguments, "case_sensitive").truth();
  const std::string by = argument_or(arguments, "by", Value(std::string("key"))).text();
  if (by != "key" && by != "value") throw TypeFault{cat("dictsort by '", by, "'; expected key or value")};
  const bool reverse = take_argument(arguments, "reverse").truth();
  auto items = value.as_dict().items;
  const auto key = [&](const auto& item) {
    return folded(by == "key" ? Value(item.first) : item.second, case_sensitive);
  };
  std::stable_sort(items.begin(), items.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(key(b), key(a)) : less(key(a), key(b));
  });
  std::vector<Value> out;
  for (auto& [name, item] : items) out.push_back(Value::list({Value(name), std::move(item)}, true));
  return Value::list(std::move(out));
}

Value unique(const Value& value, Arguments& arguments) {
  const bool case_sensitive = take_argument(arguments, "case_sensitive").truth();
  const Value attribute = take_argument(arguments, "attribute");
  std::vector<Value> keys, out;
  for (const Value& item : iterate(value)) {
    const Value key = folded(attribute.is_undefined() ? item : by_path(item, attribute), case_sensitive);
    if (std::any_of(keys.begin(), keys.end(), [&](const Value& other) { return equal(key, other); }))
      continue;
    keys.push_back(key);
    out.push_back(item);
  }
  return Value::generator(std::move(out));
}

Value extreme(const Value& value, Arguments& arguments, bool largest) {
  const bool case_sensitive = take_argument(arguments, "case_sensitive").truth();
  const Value attribute = take_argument(arguments, "attribute");
  const auto key = [&](const Value& item) {
    return folded(attribute.is_undefined() ? item : by_path(item, attribute), case_sensitive);
  };
  const std::vector<Value> items = iterate(value);
  if (items.empty()) return Value::undefined(largest ? "max" : "min");
  const Value* best = &items.front();
  for (const Value& item : items) {
    if (largest ? less(key(*best), key(item)) : less(key(item), key(*best))) best = &item;
  }
  return *best;
}

Value indented(const Value& value, Arguments& arguments) {
  const Value width = argument_or(arguments, "width", Value(std::int64_t{4}));
  const bool first = take_argument(arguments, "first").truth(),
             blank = take_argument(arguments, "blank").truth();
  if (width.is_int() && (width.as_int() < 0 || width.as_int() > 1000))
    throw TypeFault{cat("indent by ", width.as_int(), "; expected 0 to 1000")};
  const std::string margin =
      width.is_string() ? width.as_string()
                        : std::string(static_cast<std::size_t>(width.is_int() ? width.as_int() : 4), ' ');
  std::string out = first ? margin : "";
  const std::vector<Value> lines = split(value.text(), Value(std::string("\n")), -1, false);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += cat("\n", blank || !lines[i].as_string().empty() ? margin : "");
    out += lines[i].as_string();
    check_length(out.size());
  }
  return out;
}

Value rounded(const Value& value, Arguments& arguments) {
  if (!value.is_number()) throw TypeFault{cat("round wants a number, not ", value.type_name())};
  const std::int64_t precision = integer_argument(arguments, "precision", 0);
  const std::string method = argument_or(arguments, "method", Value(std::string("common"))).text();
  const double unit = std::pow(10.0, static_cast<double>(precision)), scaled = value.as_double() * unit;
  if (method == "ceil") return std::ceil(scaled) / unit;
  if (method == "floor") return std::floor(scaled) / unit;
  if (method != "common") throw TypeFault{cat("round by '", method, "'; expected common, ceil or floor")};
  return std::nearbyint(scaled) / unit;
}

Value summed(const Value& value, Arguments& arguments) {
  const Value attribute = take_argument(arguments, "attribute");
  Value start = argument_or(arguments, "start", Value(std::int64_t{0}));
  if (!start.is_number()) throw TypeFault{"sum starts with a number"};
  double real = start.as_double();
  std::int64_t whole = start.is_float() ? 0 : start.as_int();
  bool is_real = start.is_float();
  for (const Value& item : iterate(value)) {
    const Value number = attribute.is_undefined() ? item : by_path(item, attribute);
    if (!number.is_number()) throw TypeFault{cat("sum wants numbers, not ", number.type_name())};
    is_real = is_real || number.is_float();
    real += number.as_double();
    if (!number.is_float() && __builtin_add_overflow(whole, number.as_int(), &whole))
      throw TypeFault{"a sum beyond 63 bits"};
  }
  return is_real ? Value(real) : Value(whole);
}

const std::map<std::string_view, Filter>& filters() {
  static const std::map<std::string_view, Filter> kFilters = {
      {"length", length},
      {"count", length},
      {"join", joined},
      {"default", default_value},
      {"d", default_value},
      {"int", to_integer},
      {"float", to_float},
      {"tojson", to_json},
      {"map", mapped},
      {"sort", sorted},
      {"dictsort", dict_sorted},
      {"unique", unique},
      {"indent", indented},
      {"round", rounded},
      {"sum", summed},
      {"string", [](const Value& value, Arguments&) -> Value { return value.text(); }},
      {"safe", [](const Value& value, Arguments&) -> Value { return value; }},
      {"upper", [](const Value& value, Arguments&) -> Value { return upper(value.text()); }},
      {"lower", [](const Value& value, Arguments&) -> Value { return lower(value.text()); }},
      {"capitalize", [](const Value& value, Arguments&) -> Value { return capitalize(value.text()); }},
      {"title", [](const Value& value, Arguments&) -> Value { return title_filter(value.text()); }},
      {"trim",
       [](const Value& value, Arguments& arguments) -> Value {
         return strip(value.text(), take_argument(arguments, "chars"), true, true);
       }},
      {"replace",
       [](const Value& value, Arguments& arguments) -> Value {
         const std::string old = take_argument(arguments, "old").text(),
                           by = take_argument(arguments, "new").text();
         return replace(value.text(), old, by, integer_argument(arguments, "count", -1));
       }},
      {"list", [](const Value& value, Arguments&) -> Value { return Value::list(iterate(value)); }},
      {"items",
       [](const Value& value, Arguments&) -> Value {
         if (value.is_undefined()) return Value::generator({});
         if (!value.is_dict()) throw TypeFault{cat("items wants a dictionary, not ", value.type_name())};
         Arguments none;
         return Value::generator(method_of(value, "items").as_function().call(none).items());
       }},
      {"first",
       [](const Value& value, Arguments&) -> Value {
         const std::vector<Value> items = iterate(value);
         return items.empty() ? Value::undefined("first") : items.front();
       }},
      {"last",
       [](const Value& value, Arguments&) -> Value {
         const std::vector<Value> items = iterate(value);
         return items.empty() ? Value::undefined("last") : items.back();
       }},
      {"reverse",
       [](const Value& value, Arguments&) -> Value {
         std::vector<Value> items = iterate(value);
         std::reverse(items.begin(), items.end());
         if (!value.is_string()) return Value::generator(std::move(items));
         std::string out;
         for (const Value& item : items) out += item.as_string();
         return out;
       }},
      {"abs",
       [](const Value& value, Arguments&) -> Value {
         if (!value.is_number()) throw TypeFault{cat("abs wants a number, not ", value.type_name())};
         return value.is_float() ? Value(std::abs(value.as_double())) : Value(std::abs(value.as_int()));
       }},
      {"select",
       [](const Value& value, Arguments& arguments) -> Value {
         return selected(value, arguments, false, true);
       }},
      {"reject",
       [](const Value& value, Arguments& arguments) -> Value {
         return selected(value, arguments, false, false);
       }},
      {"selectattr",
       [](const Value& value, Arguments& arguments) -> Value {
         return selected(value, arguments, true, true);
       }},
      {"rejectattr",
       [](const Value& value, Arguments& arguments) -> Value {
         return selected(value, arguments, true, false);
       }},
      {"min",
       [](const Value& value, Arguments& arguments) -> Value { return extreme(value, arguments, false); }},
      {"max",
       [](const Value& value, Arguments& arguments) -> Value { return extreme(value, arguments, true); }},
  };
  return kFilters;
}

}  // namespace

Value apply_filter(std::string_view name, const Value& value, Arguments& arguments) {
  const auto found = filters().find(name);
  if (found == filters().end()) throw NotKnown{cat("filter '", name, "'")};
  Value out = found->second(value, arguments);
  no_more_arguments(arguments, cat("filter '", name, "'"));
  return out;
}

}  // namespace crumb::data::jinja
