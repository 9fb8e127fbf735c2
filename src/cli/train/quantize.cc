#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/command.h"
#include "pipeline/quantize_model.h"
#include "recipe/recipe.h"

namespace crumb::cli {
namespace {

using nlohmann::ordered_json;

struct QuantizeOptions {
  pipeline::QuantizeRequest request;
  std::string recipe_name{recipe::kDefaultRecipe};
  std::vector<std::string> assignments;
  bool resume = false, restart = false, json = false;
};

std::string cell(const ordered_json& row, const char* key, int digits) {
  return row.contains(key) && row[key].is_number() ? fixed(row[key].get<double>(), digits) : "-";
}

/// The stages of the report as people read them.
std::string stage_table(const ordered_json& report) {
  std::string text = "stage       perplexity   bits/weight   file bytes     seconds   peak memory";
  for (const auto& row : report.value("stages", ordered_json::array())) {
    std::string name = row.value("stage", "?");
    name.resize(std::max<std::size_t>(name.size(), 10), ' ');
    text += cat("\n", name, align_right(cell(row, "ppl", 2), 12),
                align_right(cell(row, "bits_per_weight", 3), 14), align_right(cell(row, "file_bytes", 0), 13),
                align_right(cell(row, "seconds", 1), 12),
                align_right(row.contains("peak_rss_bytes") && row["peak_rss_bytes"].is_number()
                                ? human_bytes(row["peak_rss_bytes"].get<double>())
                                : "-",
                            14));
  }
  return text;
}

int quantize(QuantizeOptions& options) {
  pipeline::QuantizeRequest& request = options.request;
  request.recipe = recipe::load_recipe(options.recipe_name, options.assignments);
  while (request.output.size() > 1 && request.output.back() == '/') request.output.pop_back();
  if (request.run_dir.empty()) request.run_dir = request.output + ".run";
  request.mode = options.resume    ? pipeline::ResumeMode::kResume
                 : options.restart ? pipeline::ResumeMode::kRestart
                                   : pipeline::ResumeMode::kAuto;
  const ordered_json report = pipeline::quantize_model(request);
  if (options.json) {
    print_json(report);
  } else {
    print_line(cat(stage_table(report), "\nwritten: ", request.output));
  }
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app, Action& action) {
  auto options = std::make_shared<QuantizeOptions>();
  pipeline::QuantizeRequest& request = options->request;
  CLI::App* command =
      app.add_subcommand("quantize", "train a model to few bits and write it as a packed directory");
  command->add_option("model", request.model, "Hugging Face directory or .gguf")->required();
  command->add_option("-o,--output", request.output, "directory to write")->required();
  command->add_option("--recipe", options->recipe_name, "a built-in name (see crumb recipes) or a .json file")
      ->capture_default_str();
  command->add_option("--calib", request.calib_spec,
                      "calibration: text, JSONL or token file, self, wikitext2, c4 or redpajama; default: as "
                      "the recipe says");
  command->add_option("--eval", request.eval_spec,
                      "measure perplexity on this text, token file or named corpus");
  command->add_option("--eval-context", request.eval_context, "tokens per evaluation window")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  command->add_option("--eval-windows", request.eval_windows, "at most so many evaluation windows; 0: all")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  command->add_option("--device", request.device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->add_option("--threads", request.threads, "0: as the recipe says")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_option("--set", options->assignments, "change a recipe field: path=value; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--run-dir", request.run_dir, "state of the run; default: OUTPUT.run");
  CLI::Option* resume = command->add_flag(
      "--resume", options->resume,
      "go on with the run in the run directory, and fail when there is none (without it: go on or start)");
  command->add_flag("--restart", options->restart, "throw away the run in the run directory")
      ->excludes(resume);
  command->add_flag("--json", options->json, "print the report as one JSON object");
  command->callback([options, &action] { action = [options] { return quantize(*options); }; });
}

}  // namespace crumb::cli
