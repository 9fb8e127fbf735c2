// The numbers of a run that its report and its journal share.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "data/windows.h"
#include "formats/checkpoint.h"
#include "methods/efficientqat/block_ap.h"
#include "model/language_model.h"
#include "pipeline/streams.h"
#include "quant/spec.h"

namespace crumb::pipeline {

/// Time and peak memory of a piece of work, from construction to finish(). Pieces may contain others; all of
/// one thread.
class Meter {
 public:
  Meter();
  ~Meter();
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;
  /// {"seconds", "peak_rss_bytes"}; the peak is that of this piece where the system lets it be reset, else of
  /// the process so far.
  nlohmann::ordered_json finish() const;
  double seconds() const;

 private:
  double start_;
  std::int64_t peak_ = 0;  // before an inner piece reset the system's own
};

/// {"seconds": sum, "peak_rss_bytes": largest} of rows that have both.
nlohmann::ordered_json total_cost(const nlohmann::ordered_json& rows);

/// One row of the report's "stages": {"stage", "ppl", "nll", "bits_per_weight", "file_bytes", "seconds",
/// "peak_rss_bytes"}; ppl and nll are null without evaluation windows. `bytes` is what the model's tensors
/// take in a file, `parameters` its number of weights.
nlohmann::ordered_json stage_row(const std::string& stage, const nlohmann::ordered_json& evaluation,
                                 std::int64_t bytes, std::int64_t parameters,
                                 const nlohmann::ordered_json& cost);

/// {"first_loss", "last_loss", "losses"} of a stage's steps, which have a member `loss`. Losses of every step
/// are kept: a few hundred numbers a block.
template <class Step>
nlohmann::ordered_json loss_row(const std::vector<Step>& steps) {
  nlohmann::ordered_json row = nlohmann::ordered_json::object(), losses = nlohmann::ordered_json::array();
  if (steps.empty()) return row;
  for (const Step& step : steps) losses.push_back(step.loss);
  row["first_loss"] = steps.front().loss;
  row["last_loss"] = steps.back().loss;
  row["losses"] = std::move(losses);
  return row;
}

/// Block-AP's part of a block's row.
nlohmann::ordered_json block_ap_row(const methods::efficientqat::BlockApResult& result);
/// That of the streams after the block.
nlohmann::ordered_json stream_row(const TokenStatistics& tokens);

/// JSON has no NaN and no infinity: those become null.
nlohmann::ordered_json finite_or_null(double value);

}  // namespace crumb::pipeline
