#include "data/json_fields.h"

#include "data/regex.h"

namespace crumb::data {

std::string pattern_expression(const nlohmann::json& step, std::string_view subject) {
  const auto pattern = field<nlohmann::json>(step, "pattern", subject);
  if (pattern.is_string()) return Regex::escape(pattern.get<std::string>());
  if (pattern.is_object() && pattern.contains("String"))
    return Regex::escape(field<std::string>(pattern, "String", subject));
  return field<std::string>(pattern, "Regex", subject);
}

}  // namespace crumb::data
