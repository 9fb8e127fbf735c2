#include "pipeline/report.h"

#include <chrono>
#include <cmath>

#include "base/memory_info.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

Meter::Meter() : start_(now()) { reset_peak_resident(); }

double Meter::seconds() const { return now() - start_; }

ordered_json Meter::finish() const { return {{"seconds", seconds()}, {"peak_rss_bytes", peak_resident_bytes()}}; }

ordered_json finite_or_null(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

ordered_json stage_row(const std::string& stage, const ordered_json& evaluation, std::int64_t bytes, std::int64_t parameters, const ordered_json& cost) {
  ordered_json row = {{"stage", stage}};
  row["ppl"] = evaluation.is_object() ? evaluation.at("ppl") : ordered_json(nullptr);
  row["nll"] = evaluation.is_object() ? evaluation.at("nll") : ordered_json(nullptr);
  row["bits_per_weight"] = 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters);
  row["file_bytes"] = bytes;
  row.update(cost);
  if (evaluation.is_object()) row["evaluation"] = evaluation;
  return row;
}

ordered_json block_row(std::int64_t block, const methods::efficientqat::BlockApResult& result, double lr_factor, const TokenStatistics& tokens) {
  ordered_json row = {{"block", block}, {"lr_factor", lr_factor}};
  if (!result.steps.empty()) {
    row["first_loss"] = result.steps.front().loss;
    row["last_loss"] = result.steps.back().loss;
    row["epoch_train_loss"] = result.epoch_train_loss;
    row["epoch_validation_loss"] = result.epoch_validation_loss;
    ordered_json losses = ordered_json::array(), norms = ordered_json::array();
    for (const auto& step : result.steps) {
      losses.push_back(step.loss);
      norms.push_back(step.gradient_norm);
    }
    row["losses"] = std::move(losses);
    row["gradient_norms"] = std::move(norms);
  }
  row["stream_loss"] = tokens.loss;
  row["largest_token_energy"] = tokens.largest_energy;
  row["median_token_energy"] = tokens.median_energy;
  row["largest_token_loss_share"] = tokens.largest_token_loss_share;
  return row;
}

}  // namespace crumb::pipeline
