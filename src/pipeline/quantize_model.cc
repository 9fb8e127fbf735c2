#include "pipeline/quantize_model.h"

#include "base/error.h"
#include "base/log.h"
#include "nn/torch_language_model.h"
#include "pipeline/block_stage.h"
#include "pipeline/e2e_stage.h"
#include "pipeline/output_stage.h"
#include "pipeline/quantize_context.h"
#include "pipeline/stages.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;

namespace {

// The windows of both phases, and those of the evaluations.
void prepare_data(QuantizeContext& c) {
  const auto teacher = [&] {
    return nn::make_language_model(std::make_shared<nn::CausalLm>(full_precision(c)));
  };
  if (c.needs_calibration()) {
    if (const auto event = c.run->find("calibration")) {
      c.calibration = load_calibration(c.run->verified_file(*event));
    } else {
      c.calibration = prepare_calibration(c.request.calib_spec, c.recipe, c.tokenizer.get(),
                                          c.checkpoint->config().vocab_size, teacher);
      save_calibration(c.run->path() / "calibration.safetensors", c.calibration);
      c.run->record("calibration", c.run->describe_file("calibration.safetensors"));
    }
    log::info("calibration ", c.request.calib_spec, ": ", c.calibration.train.rows, " windows of ",
              c.calibration.train.columns, " tokens, ", c.calibration.e2e.rows, " of ",
              c.calibration.e2e.columns, " for E2E-QP; content hash ", c.calibration.content_hash());
    c.report["calibration"] = {{"source", c.request.calib_spec},
                               {"content_hash", c.calibration.content_hash()}};
  }
  if (!c.request.eval_spec.empty()) {
    c.evaluation =
        data::prepare_evaluation(c.request.eval_spec, c.tokenizer.get(), c.checkpoint->config().vocab_size,
                                 c.request.eval_context, c.request.eval_windows);
    log::info("evaluation ", c.request.eval_spec, ": ", c.evaluation.rows, " windows of ",
              c.evaluation.columns, " tokens; content hash ", c.evaluation.content_hash());
    c.report["evaluation"] = {{"source", c.request.eval_spec},
                              {"windows", c.evaluation.rows},
                              {"context", c.evaluation.columns},
                              {"content_hash", c.evaluation.content_hash()}};
  }
  c.report["stages"] = ordered_json::array();
}

ordered_json run_job(QuantizeRequest request) {
  QuantizeContext context = open_context(std::move(request));
  if (auto done = finished_report(context)) return *done;
  const Meter total;
  context.run = std::make_unique<RunDirectory>(context.run_dir, context.job, context.request.mode);
  context.metrics.emplace(context.run->path() / "metrics.jsonl");
  context.progress =
      std::make_unique<Progress>(context.recipe, context.checkpoint->config().num_hidden_layers);
  if (context.run->resumed()) log::info("going on with the run in ", context.run->path().string());
  prepare_data(context);
  evaluate_stage(context, "fp", [&] { return full_precision(context); });
  evaluate_stage(context, "rtn", [&] { return rounded_to_nearest(context); });
  std::vector<at::Tensor> scales;
  {
    const std::optional<calib::ActivationStore> teacher = quantize_blocks(context);
    if (const auto name = intermediate_stage(context.recipe))
      evaluate_stage(context, *name, [&] { return packed_model(context); });
    if (context.recipe.has(recipe::Stage::kE2eQp)) scales = train_end_to_end(context, teacher);
  }
  context.progress.reset();
  write_output(context, scales, total);
  context.run->remove();
  const ordered_json& output = context.report["output"];
  log::info("written: ", context.request.output, ", ", human_bytes(output["file_bytes"].get<double>()), ", ",
            fixed(output["bits_per_linear_weight"].get<double>(), 2), " bits per block weight");
  return context.report;
}

}  // namespace

ordered_json quantize_model(const QuantizeRequest& request) {
  try {
    return run_job(request);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kInterrupted) throw;
    fail(ErrorKind::kInterrupted, "pipeline.quantize", request.output,
         ": stopped on request; finished blocks are kept in ", run_directory_of(request).string(),
         "; the same command goes on from there");
  }
}

}  // namespace crumb::pipeline
