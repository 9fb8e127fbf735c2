#include "pipeline/model_card.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/str.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;

namespace {

std::string cell(const ordered_json& row, const char* key, int digits) {
  return row.contains(key) && row.at(key).is_number() ? fixed(row.at(key).get<double>(), digits) : "-";
}

// "e2e_qp" in words.
std::string stage_words(const std::string& stage) {
  if (stage == "fp") return "full precision";
  if (stage == "rtn") return "rounded to nearest";
  if (stage == "block_ap") return "after Block-AP";
  if (stage == "e2e_qp") return "after E2E-QP: this checkpoint";
  return "this checkpoint";
}

}  // namespace

std::string model_card(const ordered_json& report) {
  std::filesystem::path source = report.at("model").get<std::string>();
  if (!source.has_filename()) source = source.parent_path();
  const ordered_json& recipe = report.at("recipe");
  const std::string scheme = report.at("scheme"), name = source.filename().string();
  const bool block_ap = recipe.at("block_ap").at("enabled"), e2e_qp = recipe.at("e2e_qp").at("enabled");
  const std::string method = block_ap && e2e_qp ? "EfficientQAT (Block-AP, then E2E-QP; arXiv:2407.11062)"
                             : block_ap         ? "EfficientQAT's Block-AP (arXiv:2407.11062)"
                             : e2e_qp           ? "EfficientQAT's E2E-QP (arXiv:2407.11062)"
                                                : "rounding to nearest, without training";
  std::string text =
      cat("---\nlibrary_name: crumb\ntags:\n- ", scheme, "\n- gptq\n---\n\n# ", name, ", ", scheme, "\n\n",
          "The block linears of ", name, " (", report.at("model_holds").get<std::string>(), ") at ",
          recipe.at("weights").at("bits").get<int>(), " bits by ", method,
          "; norms, embeddings and head keep float dtypes.\nTensors are packed in GPTQ's v2 layout. The "
          "licence is that of the source model.\n\n");
  text += "| | perplexity | bits per weight | tensor bytes |\n|---|---:|---:|---:|\n";
  for (const auto& row : report.at("stages")) {
    text += cat("| ", stage_words(row.at("stage")), " | ", cell(row, "ppl", 2), " | ",
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
