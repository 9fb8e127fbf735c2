// The one list of recipe fields. Parsing, printing, --set, `crumb recipes show` and error messages all come
// from it.
#pragma once
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "recipe/recipe.h"

namespace crumb::recipe {

enum class FieldType { kInteger, kNumber, kBoolean, kText, kChoice, kList };
std::string_view to_string(FieldType type) noexcept;

/// One field. Its default is what `get` gives for a Recipe{}.
struct Field {
  std::string path;  // "block_ap.weight_lr"; without a dot: at the top ("stages")
  FieldType type = FieldType::kInteger;
  double minimum = -std::numeric_limits<double>::infinity();  // numbers; both ends allowed
  double maximum = std::numeric_limits<double>::infinity();
  std::vector<std::string>
      choices;      // kChoice, kList: the words, each at most once; kInteger: the only values, when not empty
  std::string doc;  // one line
  std::function<nlohmann::json(const Recipe&)> get;
  /// `value` has the right type and range already.
  std::function<void(Recipe&, const nlohmann::json& value)> set;

  bool at_top() const { return path.find('.') == std::string::npos; }
  /// Its own name where it is at the top.
  std::string_view section() const { return std::string_view(path).substr(0, path.find('.')); }
  std::string_view key() const { return at_top() ? path : std::string_view(path).substr(path.find('.') + 1); }
  bool is_performance() const { return section() == "performance"; }
  /// "2, 3, 4 or 8", ">= 1", "auto | f32 | bf16"
  std::string range() const;
};

/// All fields, section by section.
std::span<const Field> fields();

/// nullptr when unknown.
const Field* find_field(std::string_view path);

/// Checks type and range, then sets. Throws InvalidArgument: subject, path, found, expected.
void assign(Recipe& recipe, const Field& field, const nlohmann::json& value, std::string_view subject);

}  // namespace crumb::recipe
