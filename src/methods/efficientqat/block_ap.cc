#include "methods/efficientqat/block_ap.h"

#include <cmath>

#include "base/check.h"
#include "methods/adamw.h"
#include "methods/schedule.h"
#include "nn/functional.h"

namespace crumb::methods::efficientqat {

using at::Tensor;

namespace {

constexpr std::size_t kQuantSet = 0, kWeightSet = 1;

// All trained tensors of a block as leaves that want gradients.
std::vector<AdamW::Parameter> trainable(nn::DecoderBlock& block, const recipe::BlockAp& how) {
  std::vector<AdamW::Parameter> parameters;
  const auto add = [&](Tensor& tensor, std::size_t set) {
    tensor = tensor.detach().contiguous().requires_grad_(true);
    parameters.push_back({tensor, set});
  };
  for (const model::LinearRole role : block.roles()) {
    nn::QuantLinear& linear = block.linear(role);
    CRUMB_CHECK(linear.state == nn::QuantLinear::State::kFakeQuant);
    add(linear.weight, kWeightSet);
    add(linear.scale, kQuantSet);
    if (how.train_zero_points) add(linear.zero_point, kQuantSet);
  }
  if (how.train_norms) {
    for (auto& [name, norm] : block.norms()) add(*norm, kWeightSet);
  }
  return parameters;
}

void freeze(nn::DecoderBlock& block) {
  for (const model::LinearRole role : block.roles()) {
    nn::QuantLinear& linear = block.linear(role);
    linear.weight = linear.weight.detach();
    linear.scale = linear.scale.detach();
    linear.zero_point = linear.zero_point.detach();
  }
  for (auto& [name, norm] : block.norms()) *norm = norm->detach();
}

double evaluate(const nn::DecoderBlock& block, const calib::BlockBatches& data, std::int64_t batch,
                double token_cap, const nn::RopeTable& rope, const nn::Compute& compute,
                const at::Device& device) {
  const at::NoGradGuard no_grad;
  double sum = 0;
  const std::int64_t batches = data.inputs.windows() / batch;
  for (std::int64_t b = 0; b < batches; ++b) {
    const Tensor y = block.forward(data.inputs.read(b * batch, batch).to(device), rope, compute);
    const Tensor target = data.targets.read(b * batch, batch).to(device);
    sum += nn::mse_loss(y, target, compute, token_cap).item<double>();
  }
  return sum / static_cast<double>(batches);
}

}  // namespace

BlockApResult train_block(nn::DecoderBlock& block, const calib::BlockBatches& train,
                          const calib::BlockBatches& validation, const nn::RopeTable& rope,
                          const recipe::BlockAp& how, double token_cap, double lr_factor,
                          const nn::Compute& compute, const at::Device& device,
                          const std::function<void(std::int64_t, const BlockApStep&)>& on_step) {
  CRUMB_CHECK(train.inputs.windows() % how.batch == 0 && train.targets.windows() == train.inputs.windows());
  const std::int64_t batches = train.inputs.windows() / how.batch, steps = how.epochs * batches;
  const std::vector<double> quant_lr = block_ap_schedule(how.quant_lr * lr_factor, how.min_lr_factor, steps);
  const std::vector<double> weight_lr =
      block_ap_schedule(how.weight_lr * lr_factor, how.min_lr_factor, steps);
  AdamW optimizer(trainable(block, how), {.weight_decay = how.weight_decay});

  BlockApResult result;
  for (std::int64_t epoch = 0; epoch < how.epochs && result.finite; ++epoch) {
    double sum = 0;
    for (std::int64_t b = 0; b < batches; ++b) {
      const std::int64_t k = epoch * batches + b;
      const Tensor x = train.inputs.read(b * how.batch, how.batch).to(device);  // [batch, T, H]
      const Tensor target = train.targets.read(b * how.batch, how.batch).to(device);
      const Tensor loss = nn::mse_loss(block.forward(x, rope, compute), target, compute, token_cap);
      BlockApStep step{loss.item<double>(), 0, quant_lr[static_cast<std::size_t>(k)],
                       weight_lr[static_cast<std::size_t>(k)]};
      if (std::isfinite(step.loss))
        step.gradient_norm = optimizer.backward_and_step(loss, {step.quant_lr, step.weight_lr});
      if (!std::isfinite(step.loss) || !std::isfinite(step.gradient_norm)) {
        result.finite = false;
        break;
      }
      sum += step.loss;
      result.steps.push_back(step);
      if (on_step) on_step(k, step);
    }
    result.epoch_train_loss.push_back(sum / static_cast<double>(batches));
    if (result.finite && validation.inputs.windows() > 0) {
      result.epoch_validation_loss.push_back(
          evaluate(block, validation, how.batch, token_cap, rope, compute, device));
    }
  }
  freeze(block);
  return result;
}

}  // namespace crumb::methods::efficientqat
