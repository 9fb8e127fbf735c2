#include "recipe/recipe.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "recipe/migrate.h"
#include "recipe/schema.h"

namespace crumb::recipe {
namespace {

using nlohmann::json;

/// Objects keep one value per key; a second one would win in silence, so it is an error.
json parse_without_duplicates(std::string_view text, std::string_view subject) {
  std::vector<std::set<std::string>> open_objects;
  std::string duplicate;
  const auto watch = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == json::parse_event_t::object_end) open_objects.pop_back();
    if (event == json::parse_event_t::key && !open_objects.back().insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  json value;
  try {
    value = json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& error) {
    fail(ErrorKind::kCorrupt, "recipe", subject, ": not JSON: ", error.what());
  }
  if (!duplicate.empty())
    fail(ErrorKind::kCorrupt, "recipe", subject, ": key '", duplicate,
         "' appears twice in one object; keep one");
  if (!value.is_object())
    fail(ErrorKind::kInvalidArgument, "recipe", subject, ": holds a JSON ", value.type_name(),
         "; expected an object");
  return value;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
  const std::string nearest = nearest_word(word, known);
  return nearest.empty() ? cat("known here: ", join(known, ", ")) : cat("did you mean '", nearest, "'?");
}

std::vector<std::string> section_names() {
  std::vector<std::string> names;
  for (const Field& field : fields()) {
    if (names.empty() || names.back() != field.section()) names.emplace_back(field.section());
  }
  return names;
}

std::vector<std::string> keys_of(std::string_view section) {
  std::vector<std::string> keys;
  for (const Field& field : fields()) {
    if (field.section() == section && !field.at_top()) keys.emplace_back(field.key());
  }
  return keys;
}

void check_version(const json& value, std::string_view subject) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 1) {
    fail(ErrorKind::kInvalidArgument, "recipe", subject, ": recipe_version is ", value.dump(),
         "; expected a whole number from 1 to ", kRecipeVersion);
  }
  if (value.get<std::int64_t>() > kRecipeVersion) {
    fail(ErrorKind::kInvalidArgument, "recipe", subject, ": recipe_version is ", value.dump(),
         "; this crumb knows up to ", kRecipeVersion, "; use a newer crumb");
  }
}

/// The section and key of a path that no field has: a wrong section, a wrong key, or a key without its
/// section.
std::string suggest_path(std::string_view path) {
  const std::string moved = since_version_2(path);
  if (!moved.empty()) return moved;
  std::vector<std::string> paths, homes;
  for (const Field& field : fields()) {
    paths.push_back(field.path);
    if (field.key() == path) homes.push_back(field.path);
  }
  if (!homes.empty()) return cat("did you mean '", join(homes, "' or '"), "'?");
  const std::string nearest = nearest_word(path, paths);
  return nearest.empty() ? "`crumb recipes show` lists them all" : cat("did you mean '", nearest, "'?");
}

}  // namespace

Recipe parse_recipe(std::string_view text, std::string_view subject) {
  json root = parse_without_duplicates(text, subject);
  Recipe recipe;
  if (root.contains("recipe_version")) {
    check_version(root["recipe_version"], subject);
    if (root["recipe_version"] == 1) root = migrate_from_1(std::move(root), subject);
  }
  for (const auto& [section, body] : root.items()) {
    if (section == "recipe_version") continue;
    if (section == "name") {
      if (!body.is_string())
        fail(ErrorKind::kInvalidArgument, "recipe", subject, ": name is ", body.dump(), "; expected text");
      recipe.name = body.get<std::string>();
      continue;
    }
    if (const Field* field = find_field(section); field != nullptr && field->at_top()) {
      assign(recipe, *field, body, subject);
      continue;
    }
    const std::vector<std::string> keys = keys_of(section);
    if (keys.empty()) {
      const std::string moved = since_version_2(section);
      std::vector<std::string> known = section_names();
      known.insert(known.end(), {"recipe_version", "name"});
      fail(ErrorKind::kInvalidArgument, "recipe", subject, ": unknown key '", section, "'; ",
           moved.empty() ? did_you_mean(section, known) : moved);
    }
    if (!body.is_object())
      fail(ErrorKind::kInvalidArgument, "recipe", subject, ": '", section, "' is ", body.dump(),
           "; expected an object");
    for (const auto& [key, value] : body.items()) {
      const Field* field = find_field(cat(section, ".", key));
      if (field == nullptr) {
        const std::string moved = since_version_2(cat(section, ".", key));
        fail(ErrorKind::kInvalidArgument, "recipe", subject, ": unknown key '", key, "' in '", section, "'; ",
             moved.empty() ? did_you_mean(key, keys) : moved);
      }
      assign(recipe, *field, value, subject);
    }
  }
  return recipe;
}

nlohmann::ordered_json to_json(const Recipe& recipe) {
  nlohmann::ordered_json out;
  out["recipe_version"] = kRecipeVersion;
  out["name"] = recipe.name;
  for (const Field& field : fields()) {
    if (field.at_top()) {
      out[field.path] = field.get(recipe);
    } else {
      out[std::string(field.section())][std::string(field.key())] = field.get(recipe);
    }
  }
  return out;
}

nlohmann::ordered_json behavior_json(const Recipe& recipe) {
  nlohmann::ordered_json out = to_json(recipe);
  for (const char* section : {"name", "card", "performance"}) out.erase(section);
  return out;
}

void set_field(Recipe& recipe, std::string_view assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string subject = cat("--set ", assignment);
  if (equals == std::string_view::npos || equals == 0) {
    fail(ErrorKind::kInvalidArgument, "recipe", subject,
         ": no '='; expected path=value, for example block_ap.epochs=3");
  }
  const std::string_view path = assignment.substr(0, equals);
  const std::string word(assignment.substr(equals + 1));
  const Field* field = find_field(path);
  if (field == nullptr)
    fail(ErrorKind::kInvalidArgument, "recipe", subject, ": unknown key '", path, "'; ", suggest_path(path));
  json value = word;
  if (field->type != FieldType::kText && field->type != FieldType::kChoice) {
    json parsed = json::parse(word, nullptr, false);
    if (!parsed.is_discarded()) value = std::move(parsed);
  }
  if (field->type == FieldType::kList && value.is_string()) {  // also words with commas between them
    value = json::array();
    for (std::size_t begin = 0; begin <= word.size();) {
      const std::size_t end = std::min(word.find(',', begin), word.size());
      if (end > begin) value.push_back(word.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  assign(recipe, *field, value, subject);
}

Recipe load_recipe(const std::string& name_or_path, const std::vector<std::string>& assignments) {
  const std::vector<std::string> names = built_in_names();
  Recipe recipe;
  bool built_in = false;
  for (const std::string& name : names) built_in = built_in || name == name_or_path;
  if (built_in) {
    recipe = parse_recipe(built_in_text(name_or_path), cat("recipes/", name_or_path, ".json"));
    recipe.name = name_or_path;
  } else {
    const std::filesystem::path path = name_or_path;
    std::ifstream file(path, std::ios::binary);
    if (!std::filesystem::is_regular_file(path) || !file) {
      const std::string nearest = nearest_word(name_or_path, names);
      fail(ErrorKind::kNotFound, "recipe.load", "'", name_or_path,
           "': neither a built-in recipe nor a readable file; ",
           nearest.empty() ? "" : cat("did you mean '", nearest, "'? "), "built in: ", join(names, ", "));
    }
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    recipe = parse_recipe(text, name_or_path);
    if (recipe.name.empty()) recipe.name = path.stem().string();
  }
  for (const std::string& assignment : assignments) set_field(recipe, assignment);
  check_recipe(recipe);
  return recipe;
}

}  // namespace crumb::recipe
