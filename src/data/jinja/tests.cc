// `value is …`.
#include "base/str.h"
#include "data/jinja/builtins.h"
#include "data/jinja/text.h"

namespace crumb::data::jinja {
namespace {

std::int64_t integer(const Value& value, std::string_view test) {
  if (!value.is_int() && !value.is_bool())
    throw TypeFault{cat("'is ", test, "' wants an integer, not ", value.type_name())};
  return value.as_int();
}

}  // namespace

bool apply_test(std::string_view name, const Value& value, Arguments& arguments) {
  const auto other = [&] {
    if (arguments.positional.empty() && arguments.named.empty())
      throw TypeFault{cat("'is ", name, "' wants a value to compare with")};
    return take_argument(arguments, "other");
  };
  const bool is_object = value.is_dict() && value.as_dict().object;
  const auto result = [&]() -> bool {
    if (name == "defined") return !value.is_undefined();
    if (name == "undefined") return value.is_undefined();
    if (name == "none") return value.is_none();
    if (name == "true") return value.is_bool() && value.truth();
    if (name == "false") return value.is_bool() && !value.truth();
    if (name == "boolean") return value.is_bool();
    if (name == "integer") return value.is_int();
    if (name == "float") return value.is_float();
    if (name == "number") return value.is_number();
    if (name == "string") return value.is_string();
    if (name == "mapping") return value.is_dict() && !is_object;
    if (name == "sequence")
      return value.is_string() || (value.is_list() && !value.as_list().generator) ||
             (value.is_dict() && !is_object) || value.is_undefined();
    if (name == "iterable")
      return value.is_string() || value.is_list() || (value.is_dict() && !is_object) || value.is_undefined();
    if (name == "callable") return value.is_function();
    if (name == "odd") return integer(value, name) % 2 != 0;
    if (name == "even") return integer(value, name) % 2 == 0;
    if (name == "divisibleby") {
      const std::int64_t by = integer(other(), name);
      if (by == 0 || by == -1) return by == -1;
      return integer(value, name) % by == 0;
    }
    if (name == "eq" || name == "equalto") return equal(value, other());
    if (name == "ne") return !equal(value, other());
    if (name == "lt" || name == "lessthan") return less(value, other());
    if (name == "gt" || name == "greaterthan") return less(other(), value);
    if (name == "le") {
      const Value right = other();
      return !less(right, value);
    }
    if (name == "ge") return !less(value, other());
    if (name == "in") return contains(other(), value);
    if (name == "lower") return lower(value.text()) == value.text() && upper(value.text()) != value.text();
    if (name == "upper") return upper(value.text()) == value.text() && lower(value.text()) != value.text();
    throw NotKnown{cat("test '", name, "'")};
  }();
  no_more_arguments(arguments, cat("'is ", name, "'"));
  return result;
}

}  // namespace crumb::data::jinja
