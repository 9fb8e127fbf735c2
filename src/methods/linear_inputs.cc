#include "methods/linear_inputs.h"

#include <algorithm>

#include "base/interrupt.h"

namespace crumb::methods {

void for_each_linear_inputs(
    const nn::DecoderBlock& block, const calib::ActivationStore& inputs, std::int64_t batch,
    const nn::RopeTable& rope, const nn::Compute& compute, const at::Device& device, const char* where,
    const std::function<void(std::int64_t windows, const nn::DecoderBlock::LinearInputs&)>& use) {
  const at::NoGradGuard no_grad;
  for (std::int64_t begin = 0; begin < inputs.windows(); begin += batch) {
    throw_if_interrupted(where);
    const std::int64_t windows = std::min(batch, inputs.windows() - begin);
    use(windows, block.linear_inputs(inputs.read(begin, windows).to(device), rope, compute));
  }
}

}  // namespace crumb::methods
