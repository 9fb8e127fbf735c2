#include "methods/signround/block_training.h"

#include <iterator>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/rng.h"
#include "nn/functional.h"

namespace crumb::methods::signround {

using at::Tensor;

namespace {

constexpr const char* kWhere = "methods.signround";

// Windows in a random order, drawn again when fewer than a batch are left.
class ShuffledWindows {
 public:
  ShuffledWindows(std::int64_t windows, std::uint64_t seed)
      : order_(static_cast<std::size_t>(windows)), next_(order_.size()), random_(seed) {
    std::iota(order_.begin(), order_.end(), 0);
  }

  std::vector<std::int64_t> batch(std::size_t count) {
    if (next_ + count > order_.size()) {
      for (std::size_t i = order_.size() - 1; i > 0; --i)
        std::swap(order_[i], order_[random_.next() % (i + 1)]);
      next_ = 0;
    }
    const auto from = order_.begin() + static_cast<std::ptrdiff_t>(next_);
    next_ += count;
    return {from, from + static_cast<std::ptrdiff_t>(count)};
  }

 private:
  std::vector<std::int64_t> order_;
  std::size_t next_;
  SplitMix64 random_;
};

// Puts the block's own weights back, whatever ends the training.
class WeightsBack {
 public:
  explicit WeightsBack(nn::DecoderBlock& block) : block_(block) {
    for (const model::LinearRole role : block.roles()) {
      CRUMB_CHECK(block.linear(role).state == nn::QuantLinear::State::kFloat);
      weights_.push_back(block.linear(role).weight);
    }
  }
  ~WeightsBack() {
    for (std::size_t i = 0; i < weights_.size(); ++i) block_.linear(block_.roles()[i]).weight = weights_[i];
  }
  WeightsBack(const WeightsBack&) = delete;
  WeightsBack& operator=(const WeightsBack&) = delete;
  const std::vector<Tensor>& weights() const { return weights_; }

 private:
  nn::DecoderBlock& block_;
  std::vector<Tensor> weights_;
};

}  // namespace

BlockResult train_block(nn::DecoderBlock& block, const calib::BlockBatches& train, const nn::RopeTable& rope,
                        const quant::AffineSpec& spec, const BlockOptions& options,
                        const nn::Compute& compute, const at::Device& device,
                        const std::function<void(std::int64_t, const BlockStep&)>& on_step) {
  CRUMB_CHECK(train.targets.windows() == train.inputs.windows());
  if (options.batch < 1 || options.batch > train.inputs.windows()) {
    fail(ErrorKind::kInvalidArgument, kWhere, "batch ", options.batch, "; expected 1 to ",
         train.inputs.windows(), ", the calibration windows");
  }
  const std::span<const model::LinearRole> roles = block.roles();
  const WeightsBack original(block);
  std::vector<Parameters> starts;
  for (std::size_t i = 0; options.search_start && i < roles.size(); ++i) {
    const auto energy = options.energies != nullptr ? std::span<const float>(options.energies->of(roles[i]))
                                                    : std::span<const float>();
    starts.push_back(search_ranges(original.weights()[i], spec, options.rounding, energy));
  }
  Trainer trainer(original.weights(), spec, options.rounding, std::move(starts));
  ShuffledWindows windows(train.inputs.windows(), options.seed);

  BlockResult result;
  for (std::int64_t k = 0; k < options.rounding.iterations; ++k) {
    throw_if_interrupted(kWhere);
    const auto batch = windows.batch(static_cast<std::size_t>(options.batch));
    for (std::size_t i = 0; i < roles.size(); ++i) block.linear(roles[i]).weight = trainer.weight(i);
    const Tensor y = block.forward(train.inputs.read_windows(batch).to(device), rope, compute);
    const double lr = trainer.lr();
    const Tensor target = train.targets.read_windows(batch).to(device);
    if (!trainer.step(nn::mse_loss(y, target, compute, options.token_cap))) {
      result.finite = false;
      break;
    }
    result.steps.push_back({trainer.losses().back(), lr});
    if (on_step) on_step(k, result.steps.back());
  }
  result.best_iteration = trainer.best_iteration();
  for (std::size_t i = 0; result.finite && i < roles.size(); ++i)
    result.linears[static_cast<std::size_t>(roles[i])] = trainer.quantized(i);
  return result;
}

}  // namespace crumb::methods::signround
