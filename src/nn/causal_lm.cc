#include "nn/causal_lm.h"

#include "base/check.h"

namespace crumb::nn {

at::Tensor CausalLm::embed(const at::Tensor& ids, std::int64_t first) const {
  const at::Tensor x = at::embedding(embedding, ids).to(at::kFloat);
  if (!positions.defined()) return x;
  return x + positions.narrow(0, first + model::kLearnedPositionOffset, ids.size(1)).to(at::kFloat);
}

at::Tensor CausalLm::last_norm(const at::Tensor& x) const {
  return norm(config, x, final_norm, final_norm_bias, compute);
}

at::Tensor ids_tensor(std::span<const std::int32_t> ids, std::int64_t rows, std::int64_t columns,
                      const at::Device& device) {
  CRUMB_CHECK(static_cast<std::int64_t>(ids.size()) == rows * columns);
  at::Tensor out = at::empty({rows, columns}, at::kLong);
  std::copy(ids.begin(), ids.end(), out.mutable_data_ptr<std::int64_t>());
  return out.to(device);
}

}  // namespace crumb::nn
