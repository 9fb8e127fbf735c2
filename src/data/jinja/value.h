// What a template computes with: Python's values, as far as chat templates need them.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace crumb::data::jinja {

class Value;

struct List {
  std::vector<Value> items;
  bool tuple = false;      // only shows when printed
  bool generator = false;  // what map, select … give: true even when empty, without length or text
};

/// Keys are strings and keep their order. `object`: a namespace, or a loop's `loop`, whose names are
/// attributes.
struct Dict {
  std::vector<std::pair<std::string, Value>> items;
  bool object = false;
  const Value* find(std::string_view key) const;
  void set(std::string_view key, Value value);
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Function {
  std::string name;
  std::function<Value(Arguments&)> call;
};

struct Undefined {
  std::string name;  // what was looked up, for the message
};
struct None {};

/// Lists, dictionaries and functions are shared, as in Python; only a namespace can be changed.
class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, std::int64_t, double, std::string,
                               std::shared_ptr<List>, std::shared_ptr<Dict>, std::shared_ptr<Function>>;
  Value() : v_(Undefined{}) {}
  template <class T>
  requires std::is_constructible_v<Variant, T> &&(!std::is_same_v<std::decay_t<T>, Value>)Value(T&& value)
      : v_(std::forward<T>(value)) {}
  static Value undefined(std::string name) { return Value(Undefined{std::move(name)}); }
  static Value list(std::vector<Value> items, bool tuple = false) {
    return Value(std::make_shared<List>(List{std::move(items), tuple, false}));
  }
  static Value generator(std::vector<Value> items) {
    return Value(std::make_shared<List>(List{std::move(items), false, true}));
  }
  static Value dict(Dict dict) { return Value(std::make_shared<Dict>(std::move(dict))); }
  static Value function(std::string name, std::function<Value(Arguments&)> call) {
    return Value(std::make_shared<Function>(Function{std::move(name), std::move(call)}));
  }
  static Value from_json(const nlohmann::ordered_json& json);

  bool is_undefined() const { return std::holds_alternative<Undefined>(v_); }
  bool is_none() const { return std::holds_alternative<None>(v_); }
  bool is_bool() const { return std::holds_alternative<bool>(v_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(v_); }
  bool is_float() const { return std::holds_alternative<double>(v_); }
  /// bool counts as a number, as in Python.
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return std::holds_alternative<std::string>(v_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<List>>(v_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<Dict>>(v_); }
  bool is_function() const { return std::holds_alternative<std::shared_ptr<Function>>(v_); }

  const std::string& undefined_name() const { return std::get<Undefined>(v_).name; }
  const std::string& as_string() const { return std::get<std::string>(v_); }
  std::vector<Value>& items() const { return std::get<std::shared_ptr<List>>(v_)->items; }
  const List& as_list() const { return *std::get<std::shared_ptr<List>>(v_); }
  Dict& as_dict() const { return *std::get<std::shared_ptr<Dict>>(v_); }
  const Function& as_function() const { return *std::get<std::shared_ptr<Function>>(v_); }
  /// Of a bool or an integer.
  std::int64_t as_int() const { return is_bool() ? std::get<bool>(v_) : std::get<std::int64_t>(v_); }
  /// Of any number.
  double as_double() const { return is_float() ? std::get<double>(v_) : static_cast<double>(as_int()); }

  bool truth() const;
  /// Python's type name: "str", "dict", "Undefined".
  std::string_view type_name() const;
  /// str(value); "" for an undefined one.
  std::string text() const;
  /// repr(value).
  std::string repr() const;

 private:
  Variant v_;
};

/// Python's ==: 1 == 1.0 == True, lists and dictionaries by content.
bool equal(const Value& a, const Value& b);
/// a < b for two numbers or two strings; throws TypeFault otherwise.
bool less(const Value& a, const Value& b);

/// json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys); indent below 0: on one line
/// with
/// ", " and ": ".
std::string to_json_text(const Value& value, int indent, bool sort_keys);

/// What an operation cannot do; the interpreter adds file and line.
struct TypeFault {
  std::string message;
};

/// Nothing that a template builds is longer: bytes of text, elements of a list.
inline constexpr std::size_t kLongest = 16 << 20;
/// Throws TypeFault above that.
void check_length(std::size_t length);

/// The characters of valid UTF-8 text, one string each.
std::vector<std::string> characters(std::string_view text);

}  // namespace crumb::data::jinja
