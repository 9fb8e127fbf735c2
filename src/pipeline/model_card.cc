#include "pipeline/model_card.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/str.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;

namespace {

std::string cell(const ordered_json& row, const char* key, int digits) {
  return row.contains(key) && row.at(key).is_number() ? fixed(row.at(key).get<double>(), digits) : "-";
}

std::string name_of(const std::string& stage) {
  if (stage == "smoothquant") return "SmoothQuant (arXiv:2211.10438)";
  if (stage == "awq") return "AWQ (arXiv:2306.00978)";
  if (stage == "omniquant") return "OmniQuant (arXiv:2308.13137)";
  if (stage == "gptq") return "GPTQ (arXiv:2210.17323)";
  if (stage == "signround") return "SignRound (arXiv:2309.05516)";
  if (stage == "block_ap") return "EfficientQAT's Block-AP (arXiv:2407.11062)";
  if (stage == "e2e_qp") return "EfficientQAT's E2E-QP (arXiv:2407.11062)";
  return "rounding to nearest";
}

// "e2e_qp" in words.
std::string stage_words(const std::string& stage, bool last) {
  if (stage == "fp") return "full precision";
  if (stage == "rtn") return "rounded to nearest";
  if (stage == "block_ap") return "after Block-AP";
  if (stage == "e2e_qp") return "after E2E-QP: this checkpoint";
  if (stage == "start" || stage == "written" || last) return "this checkpoint";
  return cat("after ", name_of(stage));
}

// "SmoothQuant (arXiv:2211.10438), then GPTQ (arXiv:2210.17323)".
std::string method_words(const ordered_json& stages) {
  if (stages == ordered_json::array({"rounding"})) return "rounding to nearest, without training";
  if (stages == ordered_json::array({"rounding", "block_ap", "e2e_qp"}))
    return "EfficientQAT (Block-AP, then E2E-QP; arXiv:2407.11062)";
  std::vector<std::string> words;
  for (const auto& stage : stages) {
    // Rounding in front of Block-AP is only where its scales start.
    if (stage != "rounding" || stages.size() == 1 || stages.back() == "rounding")
      words.push_back(name_of(stage.get<std::string>()));
  }
  return join(words, ", then ");
}

std::string activation_words(const ordered_json& activations) {
  const int bits = activations.at("bits"), kv_bits = activations.at("kv_bits");
  std::string text;
  if (bits < 16) text += cat(", with inputs of these linears at ", bits, " bits");
  if (kv_bits < 16) text += cat(text.empty() ? ", with" : " and", " keys and values at ", kv_bits, " bits");
  return text.empty() ? text : text + " (simulated by `crumb eval`)";
}

}  // namespace

std::string model_card(const ordered_json& report) {
  std::filesystem::path source = report.at("model").get<std::string>();
  if (!source.has_filename()) source = source.parent_path();
  const ordered_json& recipe = report.at("recipe");
  const std::string scheme = report.at("scheme"), name = source.filename().string();
  const std::string method = method_words(recipe.at("stages")),
                    activations = activation_words(recipe.at("activations"));
  std::string text =
      cat("---\nlibrary_name: crumb\ntags:\n- ", scheme, "\n- gptq\n---\n\n# ", name, ", ", scheme, "\n\n",
          "The block linears of ", name, " (", report.at("model_holds").get<std::string>(), ") at ",
          recipe.at("weights").at("bits").get<int>(), " bits by ", method, activations,
          "; norms, embeddings and head keep float dtypes.\nTensors are packed in GPTQ's v2 layout. The "
          "licence is that of the source model.\n\n");
  text += "| | perplexity | bits per weight | tensor bytes |\n|---|---:|---:|---:|\n";
  const ordered_json& rows = report.at("stages");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const ordered_json& row = rows[i];
    text += cat("| ", stage_words(row.at("stage"), i + 1 == rows.size()), " | ", cell(row, "ppl", 2), " | ",
                cell(row, "bits_per_weight", 3), " | ", cell(row, "file_bytes", 0), " |\n");
  }
  text += "\n";
  if (report.contains("evaluation")) {
    const ordered_json& evaluation = report.at("evaluation");
    text += cat("Perplexity on ", evaluation.at("windows").get<std::int64_t>(), " windows of ",
                evaluation.at("context").get<std::int64_t>(), " tokens of ",
                std::filesystem::path(evaluation.at("source").get<std::string>()).filename().string(),
                " (ids ", evaluation.at("content_hash").get<std::string>().substr(0, 16), ").\n");
  }
  if (report.contains("calibration")) {
    text += cat(
        "Calibrated on ",
        std::filesystem::path(report.at("calibration").at("source").get<std::string>()).filename().string(),
        " (ids ", report.at("calibration").at("content_hash").get<std::string>().substr(0, 16), ").\n");
  }
  text += cat("Bits per weight count every tensor of the files; the block linears alone take ",
              cell(report.at("output"), "bits_per_linear_weight", 2),
              ". The resolved recipe and the losses of every step are in `crumb_report.json`.\n\n```\ncrumb "
              "generate . -p \"Once upon a time\"\ncrumb eval . --text FILE\n```\n");
  return text;
}

}  // namespace crumb::pipeline
