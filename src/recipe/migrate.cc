#include "recipe/migrate.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace crumb::recipe {

using nlohmann::json;

json migrate_from_1(json recipe, std::string_view subject) {
  if (recipe.contains("stages")) {
    fail(ErrorKind::kInvalidArgument, "recipe", subject,
         ": has 'stages' and recipe_version 1, which did not know them; write \"recipe_version\": 2");
  }
  json stages = json::array({"rounding"});
  for (const char* section : {"block_ap", "e2e_qp"}) {
    bool enabled = true;
    if (recipe.contains(section) && recipe[section].is_object() && recipe[section].contains("enabled")) {
      const json& value = recipe[section]["enabled"];
      if (!value.is_boolean()) {
        fail(ErrorKind::kInvalidArgument, "recipe", subject, ": ", section, ".enabled is ", value.dump(),
             "; expected a boolean true | false");
      }
      enabled = value.get<bool>();
      recipe[section].erase("enabled");
    }
    if (enabled) stages.push_back(section);
  }
  recipe["stages"] = std::move(stages);
  if (recipe.contains("initialization")) {
    recipe["rounding"] = std::move(recipe["initialization"]);
    recipe.erase("initialization");
  }
  return recipe;
}

std::string since_version_2(std::string_view path) {
  constexpr std::string_view kOldSection = "initialization";
  if (path == "block_ap.enabled" || path == "e2e_qp.enabled")
    return "since recipe version 2 the list 'stages' says what is done";
  if (path == kOldSection) return "it is called 'rounding' since recipe version 2";
  if (path.starts_with(kOldSection) && path.substr(kOldSection.size()).starts_with('.'))
    return cat("it is called 'rounding", path.substr(kOldSection.size()), "' since recipe version 2");
  return {};
}

}  // namespace crumb::recipe
