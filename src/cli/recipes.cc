#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"
#include "cli/command.h"
#include "formats/grid_exports.h"
#include "recipe/recipe.h"
#include "recipe/schema.h"

namespace crumb::cli {
namespace {

struct RecipesOptions {
  std::string name;
  std::vector<std::string> assignments;
  bool json = false;
};

/// "w4g64 asym", "w4 asym, a4kv4 asym".
std::string bits_words(const recipe::Recipe& r) {
  std::string text = cat(quant::scheme_name(r.weights.spec()), " ", quant::to_string(r.weights.grid));
  const std::string activations = quant::scheme_name(r.activations.scheme());
  if (!activations.empty()) text += cat(", ", activations);
  return text;
}

int list_recipes(const RecipesOptions& options) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::map<std::tuple<int, std::int64_t, quant::Grid>, std::vector<std::string>> exports_of;
  std::string text;
  for (const std::string& name : recipe::built_in_names()) {
    const recipe::Recipe r = recipe::load_recipe(name);
    std::vector<std::string> stages;
    for (const recipe::Stage stage : r.stages) stages.emplace_back(recipe::to_string(stage));
    const quant::AffineSpec spec = r.weights.stored_spec();
    auto& exports = exports_of[{spec.bits, spec.group_size, spec.grid}];  // most recipes share a grid
    if (exports.empty()) exports = formats::lossless_exports(spec);
    rows.push_back({{"name", name},
                    {"default", name == recipe::kDefaultRecipe},
                    {"scheme", quant::scheme_name(r.weights.spec())},
                    {"grid", quant::to_string(r.weights.grid)},
                    {"activation_bits", r.activations.bits},
                    {"kv_bits", r.activations.kv_bits},
                    {"activation_granularity", quant::to_string(r.activations.granularity)},
                    {"stages", stages},
                    {"description", r.card.description},
                    {"paper", r.card.paper},
                    {"expects", r.card.expects},
                    {"cost", r.card.cost},
                    {"exports", exports}});
    text += cat(text.empty() ? "" : "\n\n", name, name == recipe::kDefaultRecipe ? " (default)" : "", "\n  ",
                r.card.description, "\n  paper    ", r.card.paper, "\n  bits     ", bits_words(r),
                "\n  stages   ", join(stages, ", "), "\n  cost     ", r.card.cost, "\n  exports  ",
                exports.empty() ? "none without loss" : join(exports, ", "));
  }
  if (options.json) {
    print_json({{"recipes", rows}});
  } else {
    print_line(text);
  }
  return 0;
}

/// The resolved recipe as JSON, which is also a recipe file; after it, as comments to the reader, what each
/// field means.
int show_recipe(const RecipesOptions& options) {
  const recipe::Recipe r = recipe::load_recipe(options.name, options.assignments);
  if (options.json) {
    print_json(recipe::to_json(r));
    return 0;
  }
  std::string section;
  std::string text = cat(r.name, " (recipe_version ", recipe::kRecipeVersion, ")");
  for (const recipe::Field& field : recipe::fields()) {
    const std::string key(field.key()), value = field.get(r).dump();
    if (field.at_top()) {
      text += cat("\n\n", key, "  ", value, "  ", field.doc, " [", field.range(), "]");
      continue;
    }
    if (section != field.section()) {
      section = field.section();
      text += cat("\n\n", section);
    }
    const std::string range = field.range();
    text += cat("\n  ", key, std::string(key.size() < 26 ? 26 - key.size() : 1, ' '), " ", value,
                section == "card" ? "" : std::string(value.size() < 18 ? 18 - value.size() : 1, ' '));
    if (section != "card") text += cat(" ", field.doc, range.empty() ? "" : cat(" [", range, "]"));
  }
  print_line(text);
  return 0;
}

}  // namespace

void add_recipes(CLI::App& app, Action& action) {
  auto options = std::make_shared<RecipesOptions>();
  CLI::App* command =
      app.add_subcommand("recipes", "list the built-in recipes, or show one with every field");
  command->require_subcommand(0, 1);
  command->add_flag("--json", options->json, "print one JSON object");
  CLI::App* list =
      command->add_subcommand("list", "what each is for, its paper, bits, cost and exports (the default)");
  list->add_flag("--json", options->json, "print one JSON object");
  CLI::App* show = command->add_subcommand(
      "show", "every field of one recipe, defaults included; --json prints a recipe file");
  show->add_option("name", options->name, "a built-in name or a .json file")->required();
  show->add_option("--set", options->assignments, "change a field first: path=value")
      ->take_all()
      ->allow_extra_args(false);
  show->add_flag("--json", options->json, "print one JSON object");
  command->callback([options, show, &action] {
    const bool one = show->parsed();
    action = [options, one] { return one ? show_recipe(*options) : list_recipes(*options); };
  });
}

}  // namespace crumb::cli
