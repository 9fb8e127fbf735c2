// Fields of a tokenizer.json step, with errors that name file, step and field.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace crumb::data {

/// step["type"]; throws Corrupt when the step is no object with a type.
inline std::string step_type(const nlohmann::json& step, std::string_view subject, std::string_view what) {
  if (step.is_object()) {
    const auto type = step.find("type");
    if (type != step.end() && type->is_string()) return type->get<std::string>();
  }
  fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": a ", what,
       " has no \"type\"; want an object with that string; get the file again");
}

/// The field, or `otherwise` when absent or null; throws Corrupt when it has another type.
template <class T>
T field_or(const nlohmann::json& step, const char* key, const T& otherwise, std::string_view subject) {
  const auto found = step.find(key);
  if (found == step.end() || found->is_null()) return otherwise;
  try {
    return found->template get<T>();
  } catch (const nlohmann::json::exception&) {
    fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": field \"", key, "\" is ", found->type_name(),
         "; want another type; get the file again");
  }
}

/// The field; throws Corrupt when absent or of another type.
template <class T>
T field(const nlohmann::json& step, const char* key, std::string_view subject) {
  if (!step.is_object() || !step.contains(key) || step.at(key).is_null()) {
    fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": field \"", key,
         "\" is missing; the tokenizer needs it; get the file again");
  }
  return field_or<T>(step, key, T{}, subject);
}

[[noreturn]] inline void fail_unknown_step(std::string_view subject, std::string_view what,
                                           std::string_view type, std::string_view known) {
  fail(ErrorKind::kUnsupported, "data.tokenizer_json", subject, ": ", what, " '", type,
       "' is not known; crumb has ", known, "; use a model whose tokenizer needs only these");
}

/// A "pattern" field, {"String": s} or {"Regex": r}, as the text of an expression.
std::string pattern_expression(const nlohmann::json& step, std::string_view subject);

}  // namespace crumb::data
