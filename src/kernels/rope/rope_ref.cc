#include "kernels/rope.h"

namespace crumb::kernels {
namespace {

void rotate(const RopeArgs& a, float sign, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t half = a.rotary_dim / 2;
  for (std::int64_t token = begin; token < end; ++token) {
    const float *cos = a.cos + token % a.tokens * half, *sin = a.sin + token % a.tokens * half;
    for (std::int64_t head = 0; head < a.heads; ++head) {
      const float* x = a.x + token * a.x_stride + head * a.head_dim;
      float* y = a.y + token * a.y_stride + head * a.head_dim;
      for (std::int64_t i = 0; i < half; ++i) {
        const double low = x[i], high = x[i + half], c = cos[i], s = static_cast<double>(sign) * sin[i];
        y[i] = static_cast<float>(low * c - high * s);
        y[i + half] = static_cast<float>(high * c + low * s);
      }
      for (std::int64_t i = a.rotary_dim; i < a.head_dim; ++i) y[i] = x[i];
    }
  }
}

}  // namespace

const RopeFunctions* rope_ref() noexcept {
  static constexpr RopeFunctions kFunctions = {rotate};
  return &kFunctions;
}

}  // namespace crumb::kernels
