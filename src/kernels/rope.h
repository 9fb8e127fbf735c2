// Rotary position embedding in the half-split layout of Hugging Face models.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"

namespace crumb::kernels {

/// Every head of token t, with c = cos[t, i], s = sin[t, i], i < R/2:
///
///   y[i] = x[i] c - x[i + R/2] s,   y[i + R/2] = x[i + R/2] c + x[i] s,   y[j] = x[j] for j >= R
///
/// x         [B, T, H, D]  f32; tokens are `x_stride` floats apart, so that a slice of a wider projection can
/// be taken cos, sin  [T, R/2]      f32, row 0 belongs to the first token given; R even, R <= D y (out)   [B,
/// T, H, D]  tokens `y_stride` floats apart; may be x
struct RopeArgs {
  const float* x;
  const float* cos;
  const float* sin;
  float* y;
  std::int64_t batch, tokens, heads, head_dim, rotary_dim;
  std::int64_t x_stride, y_stride;  // >= heads * head_dim
};

/// Error against f64: 2^-23 * (|x[i]| + |x[i + R/2]|) per element.
void rope(const RopeArgs& args);
/// The gradient: the rotation by the negative angle, x being grad_y and y grad_x.
void rope_backward(const RopeArgs& args);

/// Works on tokens [begin, end) of the B * T; `sign` is 1 or -1 and multiplies sin.
struct RopeFunctions {
  void (*rotate)(const RopeArgs&, float sign, std::int64_t begin, std::int64_t end) noexcept;
};
std::span<const Variant<RopeFunctions>> rope_variants();
const RopeFunctions* rope_ref() noexcept;
const RopeFunctions* rope_avx2() noexcept;
const RopeFunctions* rope_avx512() noexcept;

}  // namespace crumb::kernels
