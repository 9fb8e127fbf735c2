// What the stages of one `crumb quantize` share: the request, all that was opened for it, and what is known
// so far.
#pragma once
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/tokenizer.h"
#include "formats/checkpoint.h"
#include "nn/compute.h"
#include "pipeline/metrics.h"
#include "pipeline/progress.h"
#include "pipeline/quantize_model.h"
#include "pipeline/run_data.h"

namespace crumb::pipeline {

struct QuantizeContext {
  QuantizeRequest request;
  recipe::Recipe recipe;  // the request's
  at::Device device{at::kCPU};
  nn::Compute block_compute, e2e_compute, eval_compute;
  std::unique_ptr<formats::Checkpoint> checkpoint;
  std::unique_ptr<data::Tokenizer> tokenizer;  // null: the model has none
  std::int64_t ram_limit = 0;             // of one activation stream, bytes; larger ones are mapped files
  std::int64_t parameters = 0;            // of the model
  std::int64_t packed_bytes = 0;          // of the result's tensors
  std::filesystem::path output, run_dir;  // absolute, and where the run keeps its pieces
  nlohmann::ordered_json job, report;
  std::unique_ptr<RunDirectory> run;  // from here on set by quantize_model()
  std::optional<Metrics> metrics;
  std::unique_ptr<Progress> progress;
  CalibrationData calibration;
  data::TokenWindows evaluation;

  bool needs_calibration() const;
};

/// Opens and checks everything that a request names, before anything is computed or written: model, recipe
/// against model, places of output and run, memory. Throws what quantize_model() throws.
QuantizeContext open_context(QuantizeRequest request);

/// The report of an output directory that this very job made, if that is what lies there.
std::optional<nlohmann::ordered_json> finished_report(const QuantizeContext& context);

/// Where a request's run is kept: its run_dir, else output + ".run".
std::filesystem::path run_directory_of(const QuantizeRequest& request);

/// A process that was killed while it wrote left its half output beside `output` under a temporary name:
/// removed here.
void remove_abandoned_output(const std::filesystem::path& output);

}  // namespace crumb::pipeline
