#include "methods/omniquant/block_training.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "base/rng.h"
#include "methods/adamw.h"
#include "nn/functional.h"
#include "quant/activation_scheme.h"

namespace crumb::methods::omniquant {

using at::Tensor;
using model::LinearRole;

namespace {

constexpr std::size_t kLetSet = 0, kLwcSet = 1;

template <class F>
void for_each_tensor(BlockParameters& parameters, const F& f) {
  for (LetPair& pair : parameters.let) {
    f(pair.scale, kLetSet);
    f(pair.shift, kLetSet);
  }
  for (LwcParameters& linear : parameters.lwc) {
    f(linear.up, kLwcSet);
    f(linear.low, kLwcSet);
  }
}

std::vector<AdamW::Parameter> trainable(BlockParameters& parameters) {
  std::vector<AdamW::Parameter> leaves;
  for_each_tensor(parameters, [&](Tensor& tensor, std::size_t set) {
    if (!tensor.defined()) return;
    tensor = tensor.detach().clone().requires_grad_(true);
    leaves.push_back({tensor, set});
  });
  return leaves;
}

BlockParameters copy_of(const BlockParameters& parameters) {
  BlockParameters copy = parameters;
  for_each_tensor(copy, [](Tensor& tensor, std::size_t) {
    if (tensor.defined()) tensor = tensor.detach().clone();
  });
  return copy;
}

// Fisher-Yates.
void shuffle(std::vector<std::int64_t>& order, SplitMix64& random) {
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<std::size_t>(random.uniform() * static_cast<double>(i))]);
  }
}

// `windows` of the streams.
Tensor loss_of(const nn::DecoderBlock& quantized, const TrainingData& data,
               std::span<const std::int64_t> windows, const Settings& settings, const nn::RopeTable& rope,
               const nn::Compute& compute, const at::Device& device) {
  const auto read = [&](const calib::ActivationStore& store) {
    return store.read_windows(windows).to(device);
  };
  const Tensor y = quantized.forward(read(data.inputs), rope, compute);
  Tensor loss = nn::mse_loss(y, read(data.targets), compute, settings.token_cap);
  if (settings.aug_loss)
    loss = loss + nn::mse_loss(y, read(*data.second_targets), compute, settings.token_cap);
  return loss;
}

void check_range(bool fits, std::string_view name, double value, std::string_view expected) {
  if (!fits) {
    fail(ErrorKind::kInvalidArgument, "methods.omniquant", name, " is ", value, "; expected ", expected);
  }
}

}  // namespace

nn::ActivationQuants Settings::activations() const {
  return nn::ActivationQuants::dynamic(activation_bits, kv_bits, symmetric_activations,
                                       /*holds_zero=*/mode == Mode::kDefault);
}

void check_settings(const Settings& s, const model::ModelConfig& config) {
  check_range(s.weight_bits >= 2 && s.weight_bits <= 8, "weight_bits", s.weight_bits, "2 to 8");
  for (const auto& [name, bits] :
       {std::pair("activation_bits", s.activation_bits), std::pair("kv_bits", s.kv_bits)})
    check_range(quant::is_activation_bits(bits), name, bits, "2 to 8, or 16 for none");
  check_range(s.epochs >= 0, "epochs", static_cast<double>(s.epochs), "0 or more");
  check_range(s.batch >= 1, "batch", static_cast<double>(s.batch), "1 or more");
  check_range(s.lwc_lr >= 0, "lwc_lr", s.lwc_lr, "0 or more");
  check_range(s.let_lr >= 0, "let_lr", s.let_lr, "0 or more");
  check_range(s.alpha >= 0 && s.alpha <= 1, "alpha", s.alpha, "0 to 1");
  for (const LinearRole role : model::linear_roles(config)) {
    const std::int64_t k = model::linear_shape(config, role).k;
    if (s.group_size != -1 && (s.group_size <= 0 || k % s.group_size != 0)) {
      fail(ErrorKind::kInvalidArgument, "methods.omniquant", "group_size is ", s.group_size,
           "; expected -1 or a divisor of the ", k, " inputs of ", model::hf_name(role));
    }
  }
  if (!s.lwc && !s.let) {
    fail(ErrorKind::kInvalidArgument, "methods.omniquant",
         "lwc and let: both off, so there is nothing to train; switch one on");
  }
  if (s.let) let_sites(config, s.transformation());
}

BlockParameters start_parameters(const nn::DecoderBlock& block, const ActivationStatistics* statistics,
                                 const Settings& settings, const InputEnergies* energies) {
  BlockParameters parameters;
  if (settings.let) {
    CRUMB_CHECK(statistics != nullptr);
    parameters.let = start_let(block, let_sites(block.config(), settings.transformation()), *statistics,
                               settings.transformation());
  }
  if (!settings.lwc) return parameters;
  const bool searches = settings.search_start && settings.mode == Mode::kDefault;
  const nn::DecoderBlock start = searches ? transformed(block, parameters.let) : block;
  for (const LinearRole role : block.roles()) {
    const Tensor& w = start.linear(role).weight;
    const std::span<const float> energy = energies != nullptr && !settings.let
                                              ? std::span<const float>(energies->of(role))
                                              : std::span<const float>();
    parameters.lwc[static_cast<std::size_t>(role)] =
        searches ? search_lwc(w, settings.weights(), energy)
                 : start_lwc(w.size(0), w.size(1), settings.weights(), w.device());
  }
  return parameters;
}

nn::DecoderBlock quantized_block(const nn::DecoderBlock& block, const BlockParameters& parameters,
                                 const Settings& settings) {
  nn::DecoderBlock out = transformed(block, parameters.let);
  for (const LinearRole role : out.roles()) {
    nn::QuantLinear& linear = out.linear(role);
    CRUMB_CHECK(linear.state == nn::QuantLinear::State::kFloat);
    linear.weight =
        lwc_fake_quant(linear.weight, parameters.lwc[static_cast<std::size_t>(role)], settings.weights());
  }
  out.activations = settings.activations();
  return out;
}

BlockResult train_block(const nn::DecoderBlock& block, BlockParameters& parameters, const TrainingData& train,
                        const TrainingData* validation, const nn::RopeTable& rope, const Settings& settings,
                        double lr_factor, const nn::Compute& compute, const at::Device& device,
                        const std::function<void(std::int64_t, const Step&)>& on_step) {
  const std::int64_t windows = train.inputs.windows(), batches = windows / settings.batch;
  CRUMB_CHECK(windows % settings.batch == 0 && train.targets.windows() == windows);
  CRUMB_CHECK(!settings.aug_loss || train.second_targets != nullptr);
  const bool validates = validation != nullptr && validation->inputs.windows() > 0;
  const bool keeps_best = settings.mode == Mode::kDefault && settings.keep_best;
  const std::vector<double> lr = {settings.let_lr * lr_factor, settings.lwc_lr * lr_factor};

  BlockResult result;
  BlockParameters best;
  double best_loss = std::numeric_limits<double>::infinity();
  const auto keep_if_best = [&](std::int64_t epoch, double loss) {
    if (!keeps_best || !(loss < best_loss)) return;
    best_loss = loss;
    best = copy_of(parameters);
    result.best_epoch = epoch;
  };
  const auto evaluate = [&] {
    const at::NoGradGuard no_grad;
    const nn::DecoderBlock quantized = quantized_block(block, parameters, settings);
    const std::int64_t count = validation->inputs.windows();
    double sum = 0;
    for (std::int64_t window = 0; window < count; ++window) {
      sum += loss_of(quantized, *validation, {&window, 1}, settings, rope, compute, device).item<double>();
    }
    return sum / static_cast<double>(count);
  };

  AdamW optimizer(trainable(parameters), {});
  truncate_scales(parameters.let, settings.mode);
  if (validates) {
    CRUMB_CHECK(!settings.aug_loss || validation->second_targets != nullptr);
    result.start_validation_loss = evaluate();
    keep_if_best(0, result.start_validation_loss);
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(windows));
  std::iota(order.begin(), order.end(), 0);
  SplitMix64 random(settings.seed);
  for (std::int64_t epoch = 0; epoch < settings.epochs && result.finite; ++epoch) {
    if (settings.mode == Mode::kDefault && settings.shuffle) shuffle(order, random);
    double sum = 0;
    for (std::int64_t b = 0; b < batches; ++b) {
      truncate_scales(parameters.let, settings.mode);
      const Tensor loss = loss_of(quantized_block(block, parameters, settings), train,
                                  std::span(order).subspan(static_cast<std::size_t>(b * settings.batch),
                                                           static_cast<std::size_t>(settings.batch)),
                                  settings, rope, compute, device);
      Step step{loss.item<double>(), 0};
      if (std::isfinite(step.loss)) {
        loss.backward();
        step.gradient_norm = optimizer.gradient_norm();
      }
      if (!std::isfinite(step.loss) || !std::isfinite(step.gradient_norm)) {
        result.finite = false;
        break;
      }
      optimizer.step(lr);
      sum += step.loss;
      result.steps.push_back(step);
      if (on_step) on_step(epoch * batches + b, step);
    }
    if (!result.finite) break;
    truncate_scales(parameters.let, settings.mode);
    result.epoch_train_loss.push_back(sum / static_cast<double>(batches));
    if (validates) result.epoch_validation_loss.push_back(evaluate());
    keep_if_best(epoch + 1, validates ? result.epoch_validation_loss.back() : result.epoch_train_loss.back());
  }
  if (std::isfinite(best_loss)) {
    parameters = best;
  } else {
    result.best_epoch = static_cast<std::int64_t>(result.epoch_train_loss.size());
    parameters = copy_of(parameters);
  }
  return result;
}

void fuse_transformation(nn::DecoderBlock& block, const BlockParameters& parameters,
                         const Settings& settings) {
  const at::NoGradGuard no_grad;
  block = transformed(block, parameters.let);
  block.activations = settings.activations();
}

std::array<StoredLwc, 7> quantize_fused(const nn::DecoderBlock& fused, const BlockParameters& parameters,
                                        const Settings& settings, bool scale_f16) {
  std::array<StoredLwc, 7> all;
  for (const LinearRole role : fused.roles()) {
    const auto i = static_cast<std::size_t>(role);
    all[i] = lwc_quantized(fused.linear(role).weight, parameters.lwc[i], settings.weights(), scale_f16);
  }
  return all;
}

}  // namespace crumb::methods::omniquant
