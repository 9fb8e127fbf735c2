#include "nn/causal_lm.h"

#include "base/check.h"

namespace crumb::nn {

at::Tensor embed(const at::Tensor& embedding, const at::Tensor& ids) {
  return at::embedding(embedding, ids).to(at::kFloat);
}

at::Tensor ids_tensor(std::span<const std::int32_t> ids, std::int64_t rows, std::int64_t columns,
                      const at::Device& device) {
  CRUMB_CHECK(static_cast<std::int64_t>(ids.size()) == rows * columns);
  at::Tensor out = at::empty({rows, columns}, at::kLong);
  std::copy(ids.begin(), ids.end(), out.mutable_data_ptr<std::int64_t>());
  return out.to(device);
}

}  // namespace crumb::nn
