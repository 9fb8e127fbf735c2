#include "pipeline/stages.h"

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "eval/perplexity.h"
#include "methods/initialize.h"
#include "nn/torch_language_model.h"
#include "pipeline/block_job.h"
#include "pipeline/block_state.h"
#include "pipeline/e2e_checkpoint.h"
#include "pipeline/input_grids.h"
#include "pipeline/load_model.h"
#include "pipeline/report.h"
#include "pipeline/stages/block_stages.h"
#include "pipeline/streams.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;
using recipe::Stage;

namespace {

ordered_json perplexity(const QuantizeContext& c, nn::CausalLm lm) {
  lm.compute = c.eval_compute;
  const auto model = nn::make_language_model(std::make_shared<nn::CausalLm>(std::move(lm)));
  return eval::to_json(eval::perplexity(*model, c.evaluation));
}

}  // namespace

void evaluate_stage(QuantizeContext& c, const std::string& stage, const std::function<nn::CausalLm()>& make,
                    const ordered_json& cost) {
  ordered_json row;
  if (const auto event = c.run->find("stage", {{"stage", stage}})) {
    row = event->at("row");
  } else {
    const Meter meter;
    const ordered_json evaluation = c.evaluation.rows > 0 ? perplexity(c, make()) : ordered_json(nullptr);
    const std::int64_t bytes = stage == "fp" ? c.checkpoint->tensor_bytes() : c.packed_bytes;
    row = stage_row(stage, evaluation, bytes, c.parameters, cost.is_object() ? cost : meter.finish());
    c.run->record("stage", {{"stage", stage}, {"row", row}});
  }
  if (row["ppl"].is_number()) log::info("stage=", stage, " ppl=", fixed(row["ppl"].get<double>(), 3));
  c.report["stages"].push_back(std::move(row));
}

std::optional<std::string> intermediate_stage(const recipe::Recipe& r) {
  if (r.has(Stage::kBlockAp)) return std::string(to_string(Stage::kBlockAp));
  if (r.has(Stage::kE2eQp) && r.chooser() != Stage::kRounding) return std::string(to_string(r.chooser()));
  return std::nullopt;
}

std::string final_stage(const recipe::Recipe& r) {
  if (r.has(Stage::kE2eQp)) return std::string(to_string(Stage::kE2eQp));
  if (r.has(Stage::kBlockAp)) return "written";
  if (r.chooser() != Stage::kRounding) return std::string(to_string(r.chooser()));
  return r.stages.front() == Stage::kRounding ? "start" : std::string(to_string(r.stages.front()));
}

nn::CausalLm full_precision(const QuantizeContext& c) {
  return load_causal_lm(*c.checkpoint, c.eval_compute, c.device, Residency::kAuto);
}

nn::CausalLm rounded_to_nearest(const QuantizeContext& c) {
  const quant::ActivationScheme scheme = c.recipe.activations.scheme();
  nn::CausalLm lm = load_shell(*c.checkpoint, c.eval_compute, c.device);
  std::optional<calib::ActivationStore> stream;  // what calibrates static grids
  if (scheme.is_static()) stream = embed_windows(lm, c.calibration.train, stream_options(c));
  const std::int64_t batch = c.recipe.block_ap.batch;
  nn::RopeTable rope;
  if (stream) rope = nn::make_rope_table(lm.config, c.calibration.train.columns, c.device);
  for (std::int64_t i = 0; i < lm.config.num_hidden_layers; ++i) {
    throw_if_interrupted("pipeline.quantize");
    nn::DecoderBlock block = load_float_block(*c.checkpoint, i, c.device);
    std::optional<methods::LinearCodes> codes;
    if (c.recipe.rounding.method == recipe::InitMethod::kAbsMax) {
      codes = round_by_absmax(block, c.recipe.weights.spec());
    } else {
      methods::start_block(block, c.recipe.weights.spec(), {recipe::InitMethod::kMinMax, 1, 1}, nullptr);
    }
    formats::PackedBlock state = finish_block(block, codes ? &*codes : nullptr, c.recipe);
    if (stream) {
      apply_block_state(block, state, c.device, /*packed=*/false);
      block.activations = activation_quants(scheme, {}, c.device);
      state.input_grids =
          calibrate_input_grids(block, *stream, batch, rope, c.block_compute, c.device, scheme);
    }
    block.activations = activation_quants(scheme, state.input_grids, c.device);
    if (stream) advance(*stream, block, batch, rope, c.block_compute, c.device);
    apply_block_state(block, state, c.device, /*packed=*/true);
    lm.blocks.push_back(std::move(block));
  }
  return lm;
}

nn::CausalLm packed_model(const QuantizeContext& c) {
  nn::CausalLm lm = load_shell(*c.checkpoint, c.e2e_compute, c.device);
  for (std::int64_t i = 0; i < lm.config.num_hidden_layers; ++i) {
    nn::DecoderBlock block = load_bias_only_block(*c.checkpoint, i, c.device);
    const formats::PackedBlock state = final_block(c, i, {});
    apply_block_state(block, state, c.device, /*packed=*/true);
    block.activations = activation_quants(c.recipe.activations.scheme(), state.input_grids, c.device);
    lm.blocks.push_back(std::move(block));
  }
  return lm;
}

formats::PackedBlock final_block(const QuantizeContext& c, std::int64_t i,
                                 const std::vector<at::Tensor>& scales) {
  const auto event = c.run->find("block", {{"block", i}});
  if (!event)
    fail(ErrorKind::kCorrupt, "pipeline.quantize", c.run->path().string(), ": block ", i,
         " is not in the journal; give --restart");
  formats::PackedBlock block =
      load_block_state(c.run->verified_file(*event), c.checkpoint->config(), c.recipe.weights.stored_spec());
  if (!scales.empty()) {
    const auto roles = model::linear_roles(c.checkpoint->config());
    for (std::size_t j = 0; j < roles.size(); ++j) {
      set_scales(block.linears[static_cast<std::size_t>(roles[j])],
                 scales.at(static_cast<std::size_t>(i) * roles.size() + j));
    }
  }
  return block;
}

}  // namespace crumb::pipeline
