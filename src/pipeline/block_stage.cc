#include "pipeline/block_stage.h"

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "methods/efficientqat/block_ap.h"
#include "methods/initialize.h"
#include "nn/functional.h"
#include "pipeline/block_state.h"
#include "pipeline/load_model.h"
#include "pipeline/report.h"
#include "pipeline/streams.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;
namespace efficientqat = methods::efficientqat;

namespace {

constexpr int kAttempts = 3;  // a block whose loss is not finite is tried again with halved learning rates

calib::StoreDtype store_dtype(recipe::StoreDtype dtype) {
  return dtype == recipe::StoreDtype::kF32 ? calib::StoreDtype::kF32 : calib::StoreDtype::kBf16;
}

bool all_finite(nn::DecoderBlock& block) {
  bool finite = true;
  const auto check = [&](const at::Tensor& tensor) {
    finite = finite && at::isfinite(tensor).all().item<bool>();
  };
  for (const model::LinearRole role : model::kLinearRoles) {
    const nn::QuantLinear& linear = block.linear(role);
    check(linear.weight);
    check(linear.scale);
    check(linear.zero_point);
  }
  for (auto& [name, norm] : block.norms()) check(*norm);
  return finite;
}

std::string block_file(std::int64_t i) {
  return cat("block_", std::string(5 - std::min<std::size_t>(5, std::to_string(i).size()), '0'), i,
             ".safetensors");
}

// Starts and trains one block. When the loss stops being finite the block is loaded again and both learning
// rates are halved.
efficientqat::BlockApResult train(QuantizeContext& c, std::int64_t index, nn::DecoderBlock& block,
                                  const methods::InputEnergies* energies, const calib::BlockBatches& batches,
                                  const calib::BlockBatches& validation, const nn::RopeTable& rope,
                                  double& lr_factor) {
  const std::int64_t steps = c.recipe.block_ap.epochs * batches.inputs.windows() / c.recipe.block_ap.batch;
  for (int attempt = 0; attempt < kAttempts; ++attempt, lr_factor /= 2) {
    if (attempt > 0) block = load_float_block(*c.checkpoint, index, c.device);
    methods::start_block(block, c.recipe.weights.spec(), c.recipe.initialization, energies);
    if (!c.recipe.block_ap.enabled) return {};
    efficientqat::BlockApResult result = efficientqat::train_block(
        block, batches, validation, rope, c.recipe.block_ap, lr_factor, c.block_compute, c.device,
        [&](std::int64_t k, const efficientqat::BlockApStep& step) {
          c.metrics->add({{"block", index},
                          {"step", k},
                          {"loss", step.loss},
                          {"gradient_norm", step.gradient_norm},
                          {"quant_lr", step.quant_lr},
                          {"weight_lr", step.weight_lr}});
          c.progress->block_step(index, k + 1, steps);
          throw_if_interrupted("pipeline.quantize");
        });
    result.finite = result.finite && all_finite(block);  // the last update is followed by no loss
    if (result.finite) return result;
    log::warn("block ", index, ": the loss is not finite at step ", result.steps.size(),
              " with learning rates times ", lr_factor,
              attempt + 1 < kAttempts ? "; trying again with half of them" : "; giving up");
  }
  fail(ErrorKind::kNumerics, "pipeline.quantize", "block ", index, ": the loss was not finite in ", kAttempts,
       " attempts with ever lower learning rates; want finite losses; lower block_ap.weight_lr and "
       "block_ap.quant_lr, or check the weights with crumb inspect");
}

void print_progress(const QuantizeContext& c, std::int64_t i, const ordered_json& row) {
  const std::int64_t count = c.checkpoint->config().num_hidden_layers;
  log::info("block=", i + 1, "/", count,
            row.contains("first_loss") ? cat(" first_loss=", row["first_loss"].get<double>(),
                                             " last_loss=", row["last_loss"].get<double>())
                                       : "",
            row.contains("stream_loss") ? cat(" stream_loss=", row["stream_loss"].get<double>()) : "",
            " seconds=", fixed(row["seconds"].get<double>(), 1),
            " left=", human_seconds(c.progress->seconds_left()));
}

}  // namespace

std::optional<calib::ActivationStore> quantize_blocks(QuantizeContext& c) {
  const model::ModelConfig& config = c.checkpoint->config();
  const bool streams_needed = c.calibration.train.rows > 0;
  const bool teacher_needed =
      c.recipe.e2e_qp.enabled && c.recipe.e2e_qp.loss == recipe::E2eLoss::kKl && !c.run->find("e2e_done");
  const calib::StoreOptions options{store_dtype(c.recipe.block_ap.store_dtype), c.run->path(), c.ram_limit};
  nn::CausalLm shell = load_shell(*c.checkpoint, c.block_compute, c.device);
  const auto make_stream = [&](const data::TokenWindows& windows) {
    return embed_windows(shell.embedding, windows, options);
  };
  // X_fp and X_q for training and validation windows; the full-precision stream of E2E-QP's windows travels
  // along.
  calib::ActivationStore full = make_stream(c.calibration.train),
                         quantized = make_stream(c.calibration.train);
  calib::ActivationStore full_validation = make_stream(c.calibration.validation),
                         quantized_validation = make_stream(c.calibration.validation);
  std::optional<calib::ActivationStore> teacher;
  if (teacher_needed) teacher = make_stream(c.calibration.e2e);
  shell = {};
  const std::int64_t batch = c.recipe.block_ap.batch;
  const nn::RopeTable rope =
      nn::make_rope_table(config, std::max(c.calibration.train.columns, c.calibration.e2e.columns), c.device);

  ordered_json rows = ordered_json::array();
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    throw_if_interrupted("pipeline.quantize");
    const Meter block_meter;
    nn::DecoderBlock block = load_float_block(*c.checkpoint, i, c.device);
    std::optional<methods::InputEnergies> energies;
    const auto done = c.run->find("block", {{"block", i}});
    if (!done && c.recipe.initialization.method == recipe::InitMethod::kClipSearchActivation) {
      energies = methods::collect_input_energies(block, quantized, batch, rope, c.block_compute, c.device);
    }
    if (streams_needed) {
      advance(full, block, batch, rope, c.block_compute, c.device);
      advance(full_validation, block, batch, rope, c.block_compute, c.device);
      if (teacher) advance(*teacher, block, c.recipe.e2e_qp.batch, rope, c.block_compute, c.device);
    }
    double lr_factor = 1;
    efficientqat::BlockApResult result;
    formats::PackedBlock state;
    if (done) {
      state = load_block_state(c.run->verified_file(*done), config, c.recipe.weights.spec());
    } else {
      result = train(c, i, block, energies ? &*energies : nullptr, {quantized, full},
                     {quantized_validation, full_validation}, rope, lr_factor);
      state = finish_block(block);
      save_block_state(c.run->path() / block_file(i), state);
    }
    // Go on with what the file holds, scales in binary16 included: later blocks see what the user will run.
    apply_block_state(block, state, c.device, /*packed=*/false);
    state = {};
    if (streams_needed) {
      advance(quantized, block, batch, rope, c.block_compute, c.device);
      advance(quantized_validation, block, batch, rope, c.block_compute, c.device);
    }
    if (done) {
      rows.push_back(done->at("row"));
      c.progress->blocks_done(i + 1, /*resumed=*/true);
      continue;
    }
    std::optional<TokenStatistics> statistics;
    if (streams_needed) statistics = compare_streams(quantized, full, batch);
    ordered_json row = block_row(i, result, lr_factor, statistics ? &*statistics : nullptr);
    row.update(block_meter.finish());
    ordered_json event = c.run->describe_file(block_file(i));
    event.update({{"block", i}, {"row", row}});
    c.run->record("block", event);
    c.progress->blocks_done(i + 1, /*resumed=*/false);
    print_progress(c, i, row);
    rows.push_back(std::move(row));
  }
  c.report["block_ap"] = total_cost(rows);
  c.report["blocks"] = std::move(rows);
  if (teacher) {  // what the head sees
    const at::NoGradGuard no_grad;
    const at::Tensor norm =
        tensor_from(c.checkpoint->read_f32(model::kFinalNormName), {config.hidden_size}).to(c.device);
    for (std::int64_t w = 0; w < teacher->windows(); ++w) {
      teacher->write(
          w, nn::rms_norm(teacher->read(w, 1).to(c.device), norm, config.rms_norm_eps, c.e2e_compute));
    }
  }
  return teacher;
}

}  // namespace crumb::pipeline
