// silu(gate) * up and its gradient.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"

namespace crumb::kernels {

/// y = gate * sigmoid(gate) * up. All [count] f32; y may be gate or up.
/// Relative error against f64: 8 * 2^-24 where |gate| <= 80 (the exponential is a polynomial of 2^-23
/// relative error); beyond, sigmoid saturates to 0 or 1 with an absolute error below 1e-34 * |gate * up|.
void swiglu(const float* gate, const float* up, std::int64_t count, float* y);

/// With s = sigmoid(gate):  grad_gate = grad_y * up * s * (1 + gate * (1 - s)),  grad_up = grad_y * gate * s
/// Outputs may be any of the inputs, element for element. Absolute error: 16 * 2^-24 * (1 + |gate|) * |grad_y
/// * up|.
void swiglu_backward(const float* gate, const float* up, const float* grad_y, std::int64_t count,
                     float* grad_gate, float* grad_up);

struct SwigluFunctions {
  void (*forward)(const float* gate, const float* up, std::int64_t count, float* y) noexcept;
  void (*backward)(const float* gate, const float* up, const float* grad_y, std::int64_t count,
                   float* grad_gate, float* grad_up) noexcept;
};
std::span<const Variant<SwigluFunctions>> swiglu_variants();
const SwigluFunctions* swiglu_ref() noexcept;
const SwigluFunctions* swiglu_avx2() noexcept;
const SwigluFunctions* swiglu_avx512() noexcept;

}  // namespace crumb::kernels
