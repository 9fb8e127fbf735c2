// Filters, tests, methods and global functions of templates.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "data/jinja/value.h"

namespace crumb::data::jinja {

/// Wrongly used: TypeFault. Not known: NotKnown.
struct NotKnown {
  std::string what;  // "filter 'xmlattr'"
};
/// What raise_exception() was called with.
struct Raised {
  std::string message;
};

/// `value | name(arguments)`
Value apply_filter(std::string_view name, const Value& value, Arguments& arguments);
/// `value is name(arguments)`
bool apply_test(std::string_view name, const Value& value, Arguments& arguments);
/// The method `name` of a string or dictionary, bound to it; undefined when there is none.
Value method_of(const Value& object, std::string_view name);
/// range, dict, namespace, raise_exception, strftime_now. `now` as Template::render has it.
Dict global_functions(std::int64_t now);

/// object.name and object[index], as Jinja looks them up; undefined where there is nothing.
Value attribute_of(const Value& object, std::string_view name);
Value item_of(const Value& object, const Value& index);
/// The values that a loop over `value` sees; throws TypeFault where it cannot be iterated.
std::vector<Value> iterate(const Value& value);
/// `a in b`
bool contains(const Value& b, const Value& a);

/// The argument at `position` or called `name`, taken out of `arguments`; nullptr-like undefined when absent.
Value take_argument(Arguments& arguments, std::string_view name);
/// Throws TypeFault when arguments are left that nobody took.
void no_more_arguments(const Arguments& arguments, std::string_view who);

}  // namespace crumb::data::jinja
