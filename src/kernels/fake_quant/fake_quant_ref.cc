// The truth of this room, itself held to quant/affine.cc by the tests.
#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "kernels/fake_quant.h"
#include "quant/affine.h"

namespace crumb::kernels {
namespace {

struct Group {
  float s, z;
};

Group group_of(const FakeQuantArgs& a, std::int64_t i) {
  return {quant::effective_scale(a.scale[i]),
          std::clamp(std::nearbyint(a.zero_point[i]), a.zero_low, a.zero_high)};
}

float one(float w, const Group& g, float max_code) {
  return (std::clamp(std::nearbyint(w / g.s) + g.z, 0.0f, max_code) - g.z) * g.s;
}

void forward(const FakeQuantArgs& a, std::int64_t begin, std::int64_t end, float* w_hat) noexcept {
  for (std::int64_t i = begin; i < end; ++i) {
    const Group g = group_of(a, i);
    for (std::int64_t j = i * a.group_size; j < (i + 1) * a.group_size; ++j)
      w_hat[j] = one(a.w[j], g, a.max_code);
  }
}

void forward_bf16(const FakeQuantArgs& a, std::int64_t begin, std::int64_t end,
                  std::uint16_t* w_hat) noexcept {
  for (std::int64_t i = begin; i < end; ++i) {
    const Group g = group_of(a, i);
    for (std::int64_t j = i * a.group_size; j < (i + 1) * a.group_size; ++j)
      w_hat[j] = float_to_bf16(one(a.w[j], g, a.max_code));
  }
}

void backward(const FakeQuantArgs& a, std::int64_t begin, std::int64_t end, const float* grad_w_hat,
              float* grad_w, float* grad_scale, float* grad_zero_point) noexcept {
  for (std::int64_t i = begin; i < end; ++i) {
    const Group group = group_of(a, i);
    double sum_s = 0, sum_z = 0;
    for (std::int64_t j = i * a.group_size; j < (i + 1) * a.group_size; ++j) {
      const float t = a.w[j] / group.s, r = std::nearbyint(t), u = r + group.z,
                  q = std::clamp(u, 0.0f, a.max_code);
      const float g = grad_w_hat[j];
      const bool inside = u == q;
      sum_s +=
          static_cast<double>(g) * (inside ? static_cast<double>(r) - t : static_cast<double>(q) - group.z);
      sum_z += inside ? 0.0 : -static_cast<double>(g) * group.s;
      grad_w[j] = inside ? g : 0.0f;
    }
    grad_scale[i] = static_cast<float>(sum_s);
    if (grad_zero_point != nullptr) grad_zero_point[i] = static_cast<float>(sum_z);
  }
}

}  // namespace

const FakeQuantFunctions* fake_quant_ref() noexcept {
  static constexpr FakeQuantFunctions kFunctions = {forward, forward_bf16, backward};
  return &kFunctions;
}

}  // namespace crumb::kernels
