#include "pipeline/report.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "base/memory_info.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Meters that have not ended: a new one resets the system's peak, which theirs must not forget.
std::vector<std::int64_t*>& open_peaks() {
  static std::vector<std::int64_t*> peaks;
  return peaks;
}

}  // namespace

Meter::Meter() : start_(now()) {
  const std::int64_t so_far = peak_resident_bytes();
  for (std::int64_t* peak : open_peaks()) *peak = std::max(*peak, so_far);
  open_peaks().push_back(&peak_);
  reset_peak_resident();
}

Meter::~Meter() {
  std::erase(open_peaks(), &peak_);
}

double Meter::seconds() const {
  return now() - start_;
}

ordered_json Meter::finish() const {
  return {{"seconds", seconds()}, {"peak_rss_bytes", std::max(peak_, peak_resident_bytes())}};
}

ordered_json total_cost(const ordered_json& rows) {
  double seconds = 0;
  std::int64_t peak = 0;
  for (const auto& row : rows) {
    seconds += row.value("seconds", 0.0);
    peak = std::max(peak, row.value("peak_rss_bytes", std::int64_t{0}));
  }
  return {{"seconds", seconds}, {"peak_rss_bytes", peak}};
}

ordered_json finite_or_null(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json stage_row(const std::string& stage, const ordered_json& evaluation, std::int64_t bytes,
                       std::int64_t parameters, const ordered_json& cost) {
  ordered_json row = {{"stage", stage}};
  row["ppl"] = evaluation.is_object() ? evaluation.at("ppl") : ordered_json(nullptr);
  row["nll"] = evaluation.is_object() ? evaluation.at("nll") : ordered_json(nullptr);
  row["bits_per_weight"] = 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters);
  row["file_bytes"] = bytes;
  row.update(cost);
  if (evaluation.is_object()) row["evaluation"] = evaluation;
  return row;
}

ordered_json block_ap_row(const methods::efficientqat::BlockApResult& result) {
  ordered_json row = loss_row(result.steps);
  if (result.steps.empty()) return row;
  ordered_json norms = ordered_json::array();
  for (const auto& step : result.steps) norms.push_back(step.gradient_norm);
  row["gradient_norms"] = std::move(norms);
  row["epoch_train_loss"] = result.epoch_train_loss;
  row["epoch_validation_loss"] = result.epoch_validation_loss;
  return row;
}

ordered_json stream_row(const TokenStatistics& tokens) {
  return {{"stream_loss", tokens.loss},
          {"largest_token_energy", tokens.largest_energy},
          {"median_token_energy", tokens.median_energy},
          {"largest_token_loss_share", tokens.largest_token_loss_share}};
}

}  // namespace crumb::pipeline
