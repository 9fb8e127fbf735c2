#include "methods/activation_statistics.h"

#include "methods/linear_inputs.h"

namespace crumb::methods {

using at::Tensor;
using model::LinearRole;

Tensor ChannelStatistics::abs_max() const {
  return at::maximum(high.abs(), low.abs());
}

const ChannelStatistics& ActivationStatistics::of(LinearRole role) const {
  return inputs[nn::input_of(role)];
}

ActivationStatistics collect_activation_statistics(const nn::DecoderBlock& block,
                                                   const calib::ActivationStore& inputs, std::int64_t batch,
                                                   const nn::RopeTable& rope, const nn::Compute& compute,
                                                   const at::Device& device) {
  constexpr double kMemory = 0.99;
  ActivationStatistics all;
  std::array<Tensor, 4> sums;  // of |x|, f64
  const auto add = [&](std::int64_t windows, const nn::DecoderBlock::LinearInputs& in) {
    const auto tensors = in.all();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Tensor x = tensors[i]->view({windows, inputs.tokens(), -1});
      const Tensor high = x.amax({1}), low = x.amin({1});  // [windows, K]
      const Tensor sum = x.abs().sum(at::IntArrayRef{0, 1}, false, at::kDouble);
      ChannelStatistics& own = all.inputs[i];
      const bool first = !sums[i].defined();
      own.high = first ? high.amax({0}) : at::maximum(own.high, high.amax({0}));
      own.low = first ? low.amin({0}) : at::minimum(own.low, low.amin({0}));
      sums[i] = first ? sum : sums[i] + sum;
      const Tensor middle = (high + low) / 2;
      for (std::int64_t w = 0; w < windows; ++w) {
        own.shift = first && w == 0 ? middle[w].clone() : kMemory * own.shift + (1 - kMemory) * middle[w];
      }
    }
  };
  for_each_linear_inputs(block, inputs, batch, rope, compute, device, "methods.activation_statistics", add);
  const auto tokens = static_cast<double>(inputs.windows() * inputs.tokens());
  for (std::size_t i = 0; i < sums.size(); ++i) all.inputs[i].mean_abs = (sums[i] / tokens).to(at::kFloat);
  return all;
}

}  // namespace crumb::methods
