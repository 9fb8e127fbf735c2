#include "pipeline/block_stage.h"

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "nn/functional.h"
#include "pipeline/block_job.h"
#include "pipeline/block_state.h"
#include "pipeline/input_grids.h"
#include "pipeline/load_model.h"
#include "pipeline/report.h"
#include "pipeline/streams.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;

namespace {

constexpr int kAttempts = 3;  // a block whose loss is not finite is tried again with halved learning rates

std::string block_file(std::int64_t i) {
  return cat("block_", std::string(5 - std::min<std::size_t>(5, std::to_string(i).size()), '0'), i,
             ".safetensors");
}

std::string learning_rates(const std::string& stage) {
  if (stage == "omniquant") return "omniquant.lwc_lr and omniquant.let_lr";
  if (stage == "signround") return "signround.lr and signround.range_lr";
  return "block_ap.weight_lr and block_ap.quant_lr";
}

// Runs the stages on job.block. When a loss stops being finite the block is loaded again, and all learning
// rates are halved.
void run_stages(BlockJob& job) {
  for (int attempt = 0; attempt < kAttempts; ++attempt, job.lr_factor /= 2) {
    if (attempt > 0) {
      job.block = load_float_block(*job.context.checkpoint, job.index, job.context.device);
      job.codes.reset();
      job.row.clear();
      job.transformed = false;
      job.finite = true;
    }
    job.block.activations = activation_quants(job.recipe().activations.scheme(), {}, job.context.device);
    std::string diverged;
    for (const recipe::Stage stage : job.recipe().stages) {
      if (stage == recipe::Stage::kE2eQp) break;
      throw_if_interrupted("pipeline.quantize");
      block_stage(stage)(job);
      if (!job.finite) {
        diverged = recipe::to_string(stage);
        break;
      }
    }
    if (diverged.empty()) return;
    log::warn("block ", job.index, ": the loss of ", diverged, " is not finite with learning rates times ",
              job.lr_factor, attempt + 1 < kAttempts ? "; trying again with half of them" : "; giving up");
    if (attempt + 1 == kAttempts) {
      fail(ErrorKind::kNumerics, "pipeline.quantize", "block ", job.index, ": the loss of ", diverged,
           " was not finite in ", kAttempts,
           " attempts with ever lower learning rates; want finite losses; lower ", learning_rates(diverged),
           ", or check the weights with crumb inspect");
    }
  }
}

void print_progress(const QuantizeContext& c, std::int64_t i, const ordered_json& row) {
  const std::int64_t count = c.checkpoint->config().num_hidden_layers;
  const ordered_json* trained = row.contains("first_loss") ? &row : nullptr;
  for (const char* stage : {"omniquant", "signround"}) {
    if (trained == nullptr && row.contains(stage) && row[stage].contains("first_loss")) trained = &row[stage];
  }
  log::info("block=", i + 1, "/", count,
            trained != nullptr ? cat(" first_loss=", trained->at("first_loss").get<double>(),
                                     " last_loss=", trained->at("last_loss").get<double>())
                               : "",
            row.contains("stream_loss") ? cat(" stream_loss=", row["stream_loss"].get<double>()) : "",
            " seconds=", fixed(row["seconds"].get<double>(), 1),
            " left=", human_seconds(c.progress->seconds_left()));
}

}  // namespace

std::optional<calib::ActivationStore> quantize_blocks(QuantizeContext& c) {
  const model::ModelConfig& config = c.checkpoint->config();
  const bool streams_needed = c.calibration.train.rows > 0;
  const bool teacher_needed = c.recipe.has(recipe::Stage::kE2eQp) &&
                              c.recipe.e2e_qp.loss == recipe::E2eLoss::kKl && !c.run->find("e2e_done");
  const calib::StoreOptions options = stream_options(c);
  nn::CausalLm shell = load_shell(*c.checkpoint, c.block_compute, c.device);
  const auto make_stream = [&](const data::TokenWindows& windows) {
    return embed_windows(shell, windows, options);
  };
  // X_fp and X_q for training and validation windows; the full-precision stream of E2E-QP's windows travels
  // along.
  calib::ActivationStore full = make_stream(c.calibration.train),
                         quantized = make_stream(c.calibration.train);
  calib::ActivationStore full_validation = make_stream(c.calibration.validation),
                         quantized_validation = make_stream(c.calibration.validation);
  std::optional<calib::ActivationStore> teacher;
  if (teacher_needed) teacher = make_stream(c.calibration.e2e);
  shell.embedding = shell.positions = shell.head = at::Tensor();
  const std::int64_t batch = c.recipe.block_ap.batch;
  const quant::ActivationScheme scheme = c.recipe.activations.scheme();
  const nn::RopeTable rope =
      nn::make_rope_table(config, std::max(c.calibration.train.columns, c.calibration.e2e.columns), c.device);

  ordered_json rows = ordered_json::array();
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    throw_if_interrupted("pipeline.quantize");
    const Meter block_meter;
    nn::DecoderBlock block = load_float_block(*c.checkpoint, i, c.device);
    const auto done = c.run->find("block", {{"block", i}});
    std::optional<methods::ActivationStatistics> float_statistics;
    if (!done && wants_float_statistics(c.recipe)) {
      float_statistics =
          methods::collect_activation_statistics(block, full, batch, rope, c.block_compute, c.device);
    }
    if (streams_needed) {
      advance(full, block, batch, rope, c.block_compute, c.device);
      advance(full_validation, block, batch, rope, c.block_compute, c.device);
      if (teacher) advance(*teacher, block, c.recipe.e2e_qp.batch, rope, c.block_compute, c.device);
    }
    BlockJob job{.context = c,
                 .index = i,
                 .block = std::move(block),
                 .inputs = quantized,
                 .targets = full,
                 .validation_inputs = quantized_validation,
                 .validation_targets = full_validation,
                 .rope = rope,
                 .float_statistics = float_statistics ? &*float_statistics : nullptr};
    formats::PackedBlock state;
    if (done) {
      state = load_block_state(c.run->verified_file(*done), config, c.recipe.weights.stored_spec());
    } else {
      run_stages(job);
      state = finish_block(job.block, job.codes ? &*job.codes : nullptr, c.recipe);
      check_block_state(state, *c.checkpoint, i);
    }
    // Go on with what the file holds, scales in binary16 included: later blocks see what the user will run.
    apply_block_state(job.block, state, c.device, /*packed=*/false);
    if (!done) {
      state.input_grids =
          calibrate_input_grids(job.block, quantized, batch, rope, c.block_compute, c.device, scheme);
      save_block_state(c.run->path() / block_file(i), state);
    }
    job.block.activations = activation_quants(scheme, state.input_grids, c.device);
    state = {};
    if (streams_needed) {
      advance(quantized, job.block, batch, rope, c.block_compute, c.device);
      advance(quantized_validation, job.block, batch, rope, c.block_compute, c.device);
    }
    if (done) {
      rows.push_back(done->at("row"));
      c.progress->blocks_done(i + 1, /*resumed=*/true);
      continue;
    }
    ordered_json row = {{"block", i}, {"lr_factor", job.lr_factor}};
    row.update(job.row);
    if (streams_needed) row.update(stream_row(compare_streams(quantized, full, batch)));
    row.update(block_meter.finish());
    ordered_json event = c.run->describe_file(block_file(i));
    event.update({{"block", i}, {"row", row}});
    c.run->record("block", event);
    c.progress->blocks_done(i + 1, /*resumed=*/false);
    print_progress(c, i, row);
    rows.push_back(std::move(row));
  }
  c.report["block_stages"] = total_cost(rows);
  c.report["blocks"] = std::move(rows);
  if (teacher) {  // what the head sees
    const at::NoGradGuard no_grad;
    shell.compute = c.e2e_compute;
    for (std::int64_t w = 0; w < teacher->windows(); ++w) {
      teacher->write(w, shell.last_norm(teacher->read(w, 1).to(c.device)));
    }
  }
  return teacher;
}

}  // namespace crumb::pipeline
