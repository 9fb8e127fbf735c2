// `crumb quantize`: a checkpoint in, a packed directory and a report out.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "pipeline/run_directory.h"
#include "recipe/recipe.h"

namespace crumb::pipeline {

struct QuantizeRequest {
  std::string model;   // HF directory, GGUF file, or a directory that crumb wrote
  std::string output;  // the result; written beside it and renamed, an existing result is replaced only by a
                       // whole one
  recipe::Recipe recipe;
  std::string calib_spec;       // empty: the recipe's calibration.corpus
  std::string eval_spec;        // empty: no evaluations
  std::string device = "auto";  // auto | cpu | cuda
  int threads = 0;              // 0: the recipe's performance.threads, and if that is 0 all cores
  ResumeMode mode = ResumeMode::kAuto;
  std::int64_t eval_context = 2048;
  std::int64_t eval_windows = 0;  // 0: all
  std::string run_dir;            // empty: output + ".run"
};

/// Runs the recipe: its block stages on every block in order, then E2E-QP where it is one of the stages.
/// Returns the report that is also written to output/crumb_report.json; its members are listed in
/// docs/report.md.
///
/// What is finished is kept in the run directory; after any interruption the same request goes on there and,
/// with the same threads, gives the same bytes. When `output` already holds the result of this very request,
/// its report is returned and nothing is done.
///
/// Memory: embedding and head, one block with its optimizer state, the activation streams (in memory up to
/// performance.activation_ram_limit_bytes each, else mapped files in the run directory); E2E-QP holds the
/// packed model. Throws OutOfMemory before starting when that cannot fit. Throws Interrupted after Ctrl-C,
/// saying how to go on; Numerics when a block's loss is not finite three times.
nlohmann::ordered_json quantize_model(const QuantizeRequest& request);

}  // namespace crumb::pipeline
