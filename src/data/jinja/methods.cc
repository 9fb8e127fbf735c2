#include <algorithm>
#include <map>

#include "base/str.h"
#include "data/jinja/builtins.h"
#include "data/jinja/text.h"
#include "data/utf8.h"

namespace crumb::data::jinja {
namespace {

using Method = std::function<Value(const Value& self, Arguments& arguments)>;

std::string string_argument(Arguments& arguments, std::string_view name, std::string_view who) {
  const Value value = take_argument(arguments, name);
  if (!value.is_string()) throw TypeFault{cat(who, "() wants a string, not ", value.type_name())};
  return value.as_string();
}

std::int64_t count_argument(Arguments& arguments, std::string_view name) {
  const Value value = take_argument(arguments, name);
  if (value.is_undefined()) return -1;
  if (!value.is_int()) throw TypeFault{cat("'", name, "' is ", value.type_name(), "; expected an integer")};
  return value.as_int();
}

Method affix(bool front) {
  return [front](const Value& self, Arguments& arguments) -> Value {
    const Value wanted = take_argument(arguments, "prefix");
    const std::vector<Value> all = wanted.is_list() ? wanted.items() : std::vector<Value>{wanted};
    return std::any_of(all.begin(), all.end(), [&](const Value& one) {
      if (!one.is_string())
        throw TypeFault{cat("startswith() and endswith() want strings, not ", one.type_name())};
      return front ? self.as_string().starts_with(one.as_string())
                   : self.as_string().ends_with(one.as_string());
    });
  };
}

Method stripping(bool left, bool right) {
  return [=](const Value& self, Arguments& arguments) -> Value {
    return strip(self.as_string(), take_argument(arguments, "chars"), left, right);
  };
}

Method mapping(std::string (*map)(std::string_view)) {
  return [map](const Value& self, Arguments&) -> Value { return map(self.as_string()); };
}

Method splitting(bool from_right) {
  return [=](const Value& self, Arguments& arguments) -> Value {
    const Value separator = take_argument(arguments, "sep");
    return Value::list(split(self.as_string(), separator, count_argument(arguments, "maxsplit"), from_right));
  };
}

Method finding(bool from_right) {
  return [=](const Value& self, Arguments& arguments) -> Value {
    const std::string part = string_argument(arguments, "sub", "find");
    const std::size_t at = from_right ? self.as_string().rfind(part) : self.as_string().find(part);
    if (at == std::string::npos) return std::int64_t{-1};
    return static_cast<std::int64_t>(characters(std::string_view(self.as_string()).substr(0, at)).size());
  };
}

/// True for a text that is not empty and whose characters all are `kind`.
Method classifying(bool (*kind)(std::uint32_t)) {
  return [=](const Value& self, Arguments&) -> Value {
    const auto all = characters(self.as_string());
    return !all.empty() && std::all_of(all.begin(), all.end(), [&](const std::string& c) {
      return kind(utf8_code_point(c, 0, c.size()));
    });
  };
}

const std::map<std::string_view, Method>& string_methods() {
  static const std::map<std::string_view, Method> kMethods = {
      {"strip", stripping(true, true)},
      {"lstrip", stripping(true, false)},
      {"rstrip", stripping(false, true)},
      {"upper", mapping(upper)},
      {"lower", mapping(lower)},
      {"capitalize", mapping(capitalize)},
      {"title", mapping(title_method)},
      {"startswith", affix(true)},
      {"endswith", affix(false)},
      {"split", splitting(false)},
      {"rsplit", splitting(true)},
      {"find", finding(false)},
      {"rfind", finding(true)},
      {"isspace", classifying(is_white_space)},
      {"isdigit", classifying([](std::uint32_t c) { return c >= '0' && c <= '9'; })},
      {"splitlines",
       [](const Value& self, Arguments&) -> Value {
         std::vector<Value> lines =
             split(replace(replace(self.as_string(), "\r\n", "\n", -1), "\r", "\n", -1),
                   Value(std::string("\n")), -1, false);
         if (lines.back().as_string().empty()) lines.pop_back();
         return Value::list(std::move(lines));
       }},
      {"count",
       [](const Value& self, Arguments& arguments) -> Value {
         const std::string part = string_argument(arguments, "sub", "count");
         if (part.empty()) return static_cast<std::int64_t>(characters(self.as_string()).size()) + 1;
         return static_cast<std::int64_t>(split(self.as_string(), Value(part), -1, false).size()) - 1;
       }},
      {"removeprefix",
       [](const Value& self, Arguments& arguments) -> Value {
         const std::string part = string_argument(arguments, "prefix", "removeprefix");
         return self.as_string().starts_with(part) ? self.as_string().substr(part.size()) : self.as_string();
       }},
      {"removesuffix",
       [](const Value& self, Arguments& arguments) -> Value {
         const std::string part = string_argument(arguments, "suffix", "removesuffix");
         return self.as_string().ends_with(part)
                    ? self.as_string().substr(0, self.as_string().size() - part.size())
                    : self.as_string();
       }},
      {"replace",
       [](const Value& self, Arguments& arguments) -> Value {
         const std::string old = string_argument(arguments, "old", "replace"),
                           by = string_argument(arguments, "new", "replace");
         return replace(self.as_string(), old, by, count_argument(arguments, "count"));
       }},
      {"join",
       [](const Value& self, Arguments& arguments) -> Value {
         std::vector<std::string> words;
         std::size_t size = 0;
         for (const Value& item : iterate(take_argument(arguments, "iterable"))) {
           if (!item.is_string()) throw TypeFault{cat("join() wants strings, not ", item.type_name())};
           words.push_back(item.as_string());
           check_length(size += item.as_string().size() + self.as_string().size());
         }
         return join(words, self.as_string());
       }},
  };
  return kMethods;
}

const std::map<std::string_view, Method>& dict_methods() {
  static const std::map<std::string_view, Method> kMethods = {
      {"items",
       [](const Value& self, Arguments&) -> Value {
         std::vector<Value> out;
         for (const auto& [key, item] : self.as_dict().items)
           out.push_back(Value::list({Value(key), item}, true));
         return Value::list(std::move(out));
       }},
      {"keys", [](const Value& self, Arguments&) -> Value { return Value::list(iterate(self)); }},
      {"values",
       [](const Value& self, Arguments&) -> Value {
         std::vector<Value> out;
         for (const auto& [key, item] : self.as_dict().items) out.push_back(item);
         return Value::list(std::move(out));
       }},
      {"get",
       [](const Value& self, Arguments& arguments) -> Value {
         const Value key = take_argument(arguments, "key"), otherwise = take_argument(arguments, "default");
         if (key.is_string()) {
           if (const Value* found = self.as_dict().find(key.as_string())) return *found;
         }
         return otherwise.is_undefined() ? Value(None{}) : otherwise;
       }},
  };
  return kMethods;
}

}  // namespace

Value method_of(const Value& object, std::string_view name) {
  // What Python has and crumb has not; every other name is an attribute that Python does not have either.
  constexpr std::string_view kString[] = {
      "casefold",    "center",   "encode",    "expandtabs", "format",       "format_map", "index",
      "isalnum",     "isalpha",  "isascii",   "isdecimal",  "isidentifier", "islower",    "isnumeric",
      "isprintable", "istitle",  "isupper",   "ljust",      "partition",    "rindex",     "rjust",
      "rpartition",  "swapcase", "translate", "zfill"};
  constexpr std::string_view kDict[] = {"copy",    "fromkeys",   "clear", "pop",
                                        "popitem", "setdefault", "update"};
  constexpr std::string_view kList[] = {"append", "extend", "insert", "pop",   "remove", "reverse",
                                        "sort",   "clear",  "copy",   "index", "count"};
  const auto one_of = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  const bool dict = object.is_dict() && !object.as_dict().object;
  if ((object.is_string() && one_of(kString)) || (dict && one_of(kDict)) ||
      (object.is_list() && one_of(kList)))
    throw NotKnown{cat("method '", name, "' of a ", object.type_name())};
  if (!object.is_string() && !dict) return Value();
  const auto& methods = dict ? dict_methods() : string_methods();
  const auto found = methods.find(name);
  if (found == methods.end()) return Value();
  const Method& method = found->second;
  return Value::function(std::string(name),
                         [object, &method, name = std::string(name)](Arguments& arguments) {
                           Value out = method(object, arguments);
                           no_more_arguments(arguments, name + "()");
                           return out;
                         });
}

}  // namespace crumb::data::jinja
