#include "recipe/built_in.h"

#include <algorithm>

#include "base/error.h"
#include "recipe/recipe.h"

namespace crumb::recipe {

std::vector<std::string> built_in_names() {
  std::vector<std::string> names;
  for (const BuiltIn& recipe : built_in_recipes()) names.emplace_back(recipe.name);
  std::stable_partition(names.begin(), names.end(),
                        [](const std::string& name) { return name == kDefaultRecipe; });
  return names;
}

std::string_view built_in_text(std::string_view name) {
  for (const BuiltIn& recipe : built_in_recipes()) {
    if (recipe.name == name) return recipe.text;
  }
  const std::vector<std::string> names = built_in_names();
  const std::string nearest = nearest_word(name, names);
  fail(ErrorKind::kNotFound, "recipe.built_in", "'", name, "': no built-in recipe of this name; ",
       nearest.empty() ? "" : cat("did you mean '", nearest, "'? "), "built in: ", join(names, ", "));
}

}  // namespace crumb::recipe
