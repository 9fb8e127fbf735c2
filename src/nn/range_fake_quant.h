// Fake quantization whose scale and zero point follow the range of the values themselves: dynamic
// activations, weights with learned clipping.
#pragma once
#include <cstdint>

#include "nn/torch.h"

namespace crumb::nn {

/// How a row of values becomes a grid. With Q = 2^bits - 1, clipping factors gamma, beta (1 without clipping)
/// and top = gamma max, bottom = beta min of the row:
///
///   kAsymmetric   scale = (top - bottom) / Q                           zero_point = rne(-bottom / scale)
///   kSymmetric    scale = max(|top|, |bottom|) / (2^(bits-1) - 1)      zero_point = 2^(bits-1) - 1
///   kNoZeroPoint  the same scale                                       zero_point = 2^(bits-1): signed codes
///
/// scale is clamped to [min_scale, 1e4]; then Q1, Q2 of quant/affine.h. OmniQuant, arXiv:2308.13137 eq. (2).
struct RangeQuant {
  enum class Scheme { kAsymmetric, kSymmetric, kNoZeroPoint };
  int bits = 8;  // 2 … 15
  Scheme scheme = Scheme::kAsymmetric;
  /// true: max and min are widened to hold 0, so that zero points lie in [0, Q] and any format can store
  /// them, and a row of one value is not clipped, so that it stays what it is. false: the authors' grid; zero
  /// points may be negative or above Q, and are clamped to ±1e4 only.
  bool holds_zero = true;
  double min_scale = 1e-5;
};

/// The grid of each row: scale and zero_point [R, 1] f32. No gradient.
struct RangeGrid {
  at::Tensor scale, zero_point;
};

/// x [R, G] f32; gamma, beta [R, 1] f32 in [0, 1], or undefined (no clipping).
RangeGrid range_grid(const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& beta,
                     const RangeQuant& how);

/// Fake-quantized x with straight-through gradients, also through the scale to gamma, beta and the row's
/// extremes; the zero point passes none. With code before clamping u = rne(x / scale) + z, inside = (0 <= u
/// <= Q), both ends included, g the gradient of the result, S = sum over the row of g ((code - z) - inside x
/// / scale), 0 where scale was clamped:
///
///   dx = g inside + the extremes' part, dgamma = S max / Q, dbeta = -S min / Q                 (kAsymmetric)
///   d max = S gamma / Q, d min = -S beta / Q, each shared evenly by the values that attain it
///
/// and for the symmetric schemes the same through the larger of |top|, |bottom| (half each when equal).
at::Tensor range_fake_quant(const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& beta,
                            const RangeQuant& how);

}  // namespace crumb::nn
