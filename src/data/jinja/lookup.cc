// Attributes, subscripts, iteration and membership; the global functions.
#include <algorithm>
#include <ctime>

#include "base/str.h"
#include "data/jinja/builtins.h"

namespace crumb::data::jinja {

Value take_argument(Arguments& arguments, std::string_view name) {
  const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                  [&](const auto& a) { return a.first == name; });
  Value out = Value::undefined(std::string(name));
  if (named != arguments.named.end()) {
    out = named->second;
    arguments.named.erase(named);
  } else if (!arguments.positional.empty()) {
    out = arguments.positional.front();
    arguments.positional.erase(arguments.positional.begin());
  }
  return out;
}

void no_more_arguments(const Arguments& arguments, std::string_view who) {
  if (!arguments.named.empty())
    throw TypeFault{cat(who, " has no argument '", arguments.named.front().first, "'")};
  if (!arguments.positional.empty()) throw TypeFault{cat(who, " takes fewer arguments")};
}

Value attribute_of(const Value& object, std::string_view name) {
  if (object.is_undefined()) throw TypeFault{cat("'", object.undefined_name(), "' is undefined")};
  if (Value method = method_of(object, name); !method.is_undefined()) return method;
  if (object.is_dict()) {
    if (const Value* found = object.as_dict().find(name)) return *found;
  }
  return Value::undefined(std::string(name));
}

Value item_of(const Value& object, const Value& index) {
  if (object.is_undefined()) throw TypeFault{cat("'", object.undefined_name(), "' is undefined")};
  if (index.is_string()) {
    if (object.is_dict() && !object.as_dict().object) {
      if (const Value* found = object.as_dict().find(index.as_string())) return *found;
    }
    return attribute_of(object, index.as_string());
  }
  if ((index.is_int() || index.is_bool()) && (object.is_list() || object.is_string())) {
    if (object.is_list() && object.as_list().generator)
      throw TypeFault{"a generator has no elements by number; add | list"};
    const std::vector<Value> items = object.is_list() ? object.items() : iterate(object);
    const auto count = static_cast<std::int64_t>(items.size());
    const std::int64_t at = index.as_int() < 0 ? index.as_int() + count : index.as_int();
    if (at >= 0 && at < count) return items[static_cast<std::size_t>(at)];
  }
  return Value::undefined(index.is_undefined() ? index.undefined_name() : index.text());
}

std::vector<Value> iterate(const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_list()) return value.items();
  std::vector<Value> out;
  if (value.is_string()) {
    for (std::string& character : characters(value.as_string())) out.emplace_back(std::move(character));
    return out;
  }
  if (value.is_dict() && !value.as_dict().object) {
    for (const auto& [key, item] : value.as_dict().items) out.emplace_back(key);
    return out;
  }
  throw TypeFault{cat("a value of type ", value.type_name(), " cannot be iterated")};
}

bool contains(const Value& b, const Value& a) {
  if (b.is_string()) {
    if (!a.is_string()) throw TypeFault{cat("'in' a string wants a string, not ", a.type_name())};
    return b.as_string().find(a.as_string()) != std::string::npos;
  }
  if (b.is_dict() && !b.as_dict().object) return a.is_string() && b.as_dict().find(a.as_string()) != nullptr;
  const std::vector<Value> items = iterate(b);
  return std::any_of(items.begin(), items.end(), [&](const Value& item) { return equal(item, a); });
}

namespace {

std::int64_t integer(const Value& value, std::string_view who) {
  if (!value.is_int() && !value.is_bool())
    throw TypeFault{cat(who, " wants an integer, not ", value.type_name())};
  return value.as_int();
}

Value range(Arguments& arguments) {
  constexpr std::int64_t kLongest = 100000;  // as Jinja's sandbox
  if (!arguments.named.empty() || arguments.positional.empty() || arguments.positional.size() > 3)
    throw TypeFault{"range() takes one to three integers"};
  const auto at = [&](std::size_t i) { return integer(arguments.positional[i], "range()"); };
  const bool one = arguments.positional.size() == 1;
  const std::int64_t begin = one ? 0 : at(0), end = one ? at(0) : at(1),
                     step = arguments.positional.size() == 3 ? at(2) : 1;
  if (step == 0) throw TypeFault{"range() with a step of 0"};
  std::vector<Value> out;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<std::int64_t>(out.size()) == kLongest)
      throw TypeFault{cat("range() of more than ", kLongest, " numbers")};
    out.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::list(std::move(out));
}

Value dictionary(Arguments& arguments, bool object) {
  Dict out;
  for (const Value& from : arguments.positional) {
    if (!from.is_dict())
      throw TypeFault{cat("a dictionary is made from dictionaries, not from ", from.type_name())};
    for (const auto& [key, item] : from.as_dict().items) out.set(key, item);
  }
  for (auto& [key, item] : arguments.named) out.set(key, std::move(item));
  out.object = object;
  return Value::dict(std::move(out));
}

Value time_text(Arguments& arguments, std::int64_t now) {
  const Value format = take_argument(arguments, "format");
  no_more_arguments(arguments, "strftime_now()");
  if (!format.is_string()) throw TypeFault{"strftime_now() wants a format"};
  const std::time_t seconds = now < 0 ? std::time(nullptr) : static_cast<std::time_t>(now);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  if (format.as_string().empty()) return std::string();
  std::string out(1024, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.as_string().c_str(), &parts));
  return out;
}

}  // namespace

Dict global_functions(std::int64_t now) {
  Dict out;
  const auto add = [&](const char* name, std::function<Value(Arguments&)> call) {
    out.set(name, Value::function(name, std::move(call)));
  };
  add("range", range);
  add("dict", [](Arguments& arguments) { return dictionary(arguments, false); });
  add("namespace", [](Arguments& arguments) { return dictionary(arguments, true); });
  add("strftime_now", [now](Arguments& arguments) { return time_text(arguments, now); });
  add("raise_exception",
      [](Arguments& arguments) -> Value { throw Raised{take_argument(arguments, "message").text()}; });
  return out;
}

}  // namespace crumb::data::jinja
