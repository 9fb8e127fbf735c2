#include "base/interrupt.h"
#include "methods/omniquant/block_training.h"
#include "pipeline/report.h"
#include "pipeline/stages/block_stages.h"
#include "pipeline/streams.h"

namespace crumb::pipeline {

using recipe::Stage;
namespace omniquant = methods::omniquant;

omniquant::Settings omniquant_settings(const recipe::Recipe& r) {
  const recipe::OmniQuant& how = r.omniquant;
  omniquant::Settings s;
  s.weight_bits = r.weights.bits;
  s.group_size = r.weights.group_size;
  s.scheme = r.weights.grid == quant::Grid::kAsym ? nn::RangeQuant::Scheme::kAsymmetric
                                                  : nn::RangeQuant::Scheme::kNoZeroPoint;
  s.activation_bits = r.activations.bits;
  s.kv_bits = r.activations.kv_bits;
  s.symmetric_activations = r.activations.symmetric;
  s.lwc = how.lwc;
  s.let = how.let;
  s.alpha = how.alpha;
  s.up_down = how.up_down;
  s.shift = how.shift;
  s.search_start = how.search_start;
  s.epochs = how.epochs;
  s.batch = how.batch;
  s.lwc_lr = how.lwc_lr;
  s.let_lr = how.let_lr;
  s.token_cap = r.objective.token_cap;
  s.aug_loss = how.aug_loss;
  s.shuffle = how.shuffle;
  s.keep_best = how.keep_best;
  s.seed = how.seed;
  return s;
}

void run_omniquant(BlockJob& job) {
  const QuantizeContext& c = job.context;
  const omniquant::Settings settings = omniquant_settings(job.recipe());
  std::optional<methods::ActivationStatistics> statistics;
  if (settings.let) statistics = job.statistics();
  std::optional<calib::ActivationStore> second, second_validation;
  if (settings.aug_loss) {
    nn::DecoderBlock plain = job.block;
    plain.activations = {};
    const auto outputs = [&](const calib::ActivationStore& inputs) {
      return output_stream(inputs, plain, job.batch(), job.rope, c.block_compute, c.device,
                           stream_options(c));
    };
    second = outputs(job.inputs);
    second_validation = outputs(job.validation_inputs);
  }
  const omniquant::TrainingData train{job.inputs, job.targets, second ? &*second : nullptr},
      validation{job.validation_inputs, job.validation_targets,
                 second_validation ? &*second_validation : nullptr};

  std::optional<methods::InputEnergies> energies;
  if (settings.search_start && !settings.let) energies = job.energies();
  omniquant::BlockParameters parameters = omniquant::start_parameters(
      job.block, statistics ? &*statistics : nullptr, settings, energies ? &*energies : nullptr);
  const std::int64_t steps = settings.epochs * job.inputs.windows() / settings.batch;
  const omniquant::BlockResult result =
      omniquant::train_block(job.block, parameters, train, &validation, job.rope, settings, job.lr_factor,
                             c.block_compute, c.device, [&](std::int64_t k, const omniquant::Step& step) {
                               job.stepped(Stage::kOmniQuant, k, steps,
                                           {{"loss", step.loss}, {"gradient_norm", step.gradient_norm}});
                             });
  job.finite = result.finite;
  if (!job.finite) return;

  omniquant::fuse_transformation(job.block, parameters, settings);
  methods::LinearCodes codes;
  auto stored = omniquant::quantize_fused(job.block, parameters, settings, /*scale_f16=*/true);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = std::move(stored[i].linear);
  job.codes = std::move(codes);
  job.transformed = job.transformed || settings.let;

  nlohmann::ordered_json row = loss_row(result.steps);
  row["epoch_train_loss"] = result.epoch_train_loss;
  row["epoch_validation_loss"] = result.epoch_validation_loss;
  row["start_validation_loss"] = result.start_validation_loss;
  row["best_epoch"] = result.best_epoch;
  job.row["omniquant"] = std::move(row);
}

}  // namespace crumb::pipeline
