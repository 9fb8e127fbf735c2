// The scalar truth for rounding, clamping and dequantizing. Everything faster is tested against this file.
//
//   Q1  code  = clamp(rne(w / scale) + zero_point, 0, 2^bits - 1)       rne: round half to even
//   Q2  w_hat = (code - zero_point) * scale
//
// EfficientQAT, arXiv:2407.11062 eq. (1), (2); derivatives Q3 as in docs/math.md (the paper's appendix
// misprints two of them).
#pragma once
#include <cstdint>
#include <span>

#include "quant/spec.h"

namespace crumb::quant {

/// Training clamps scales to this range, straight through (spec of the authors' quantizer).
inline constexpr float kMinScale = 1e-4f;
inline constexpr float kMaxScale = 1e4f;

/// Min-max start of every group, as the authors do it: the range is not widened to hold 0.
///
///   scale = clip((max - min) / (2^bits - 1), 1e-4, 1e4),   zero_point = rne(-clip(min / scale, -1e4, 1e4))
///
/// w            [N, K] f32, finite
/// scales (out), zero_points (out) [N, K/G] f32; a zero point of a group of one sign lies outside [0, 2^bits
/// - 1] and is clamped
///   wherever it is used.
/// The division is a true one: a product with the reciprocal differs in the last bit of a third of the
/// scales.
void init_minmax(std::span<const float> w, std::int64_t n, std::int64_t k, const AffineSpec& spec,
                 std::span<float> scales, std::span<float> zero_points);

/// The value that Q1 and Q2 use for a stored trainable scale or zero point.
float effective_scale(float scale) noexcept;
float effective_zero_point(float zero_point, const AffineSpec& spec) noexcept;

/// Q1 for one weight. scale > 0, zero_point an integer in [0, max_code]. At most |w / scale| <= 2^22 is
/// exact; larger saturates.
std::int32_t quantize_one(float w, float scale, float zero_point, std::int32_t max_code) noexcept;

/// Q1, group by group.
///
/// w            [N, K]    f32, finite
/// scales       [N, K/G]  f32, zero_points [N, K/G] f32; clamped by effective_* first
/// codes (out)  [N, K]    u8, one code per byte
void quantize(std::span<const float> w, std::span<const float> scales, std::span<const float> zero_points,
              std::int64_t n, std::int64_t k, const AffineSpec& spec, std::span<std::uint8_t> codes);

/// Q2. scales [N, K/G] f32 used as they are (a checkpoint's scales may be negative or below kMinScale),
/// zero_points u8.
void dequantize(std::span<const std::uint8_t> codes, std::span<const float> scales,
                std::span<const std::uint8_t> zero_points, std::int64_t n, std::int64_t k,
                const AffineSpec& spec, std::span<float> w_hat);

/// Q2(Q1(w)) with trainable scales and zero points.
void fake_quant(std::span<const float> w, std::span<const float> scales, std::span<const float> zero_points,
                std::int64_t n, std::int64_t k, const AffineSpec& spec, std::span<float> w_hat);

/// Q3, the straight-through gradients. With u = rne(w / s) + z, q = clamp(u), inside = (0 <= u <= 2^bits -
/// 1), both ends included:
///
///   dw = g * inside
///   ds = sum over the group of g * (inside ? rne(w / s) - w / s : q - z)
///   dz = sum over the group of g * (inside ? 0 : -s)
///
/// The clamps of s and z themselves are straight-through: a scale below 1e-4 still receives its gradient.
/// grad_w_hat [N, K]; grad_w (out) [N, K]; grad_scales, grad_zero_points (out) [N, K/G]. Sums in f64.
void fake_quant_backward(std::span<const float> w, std::span<const float> scales,
                         std::span<const float> zero_points, std::span<const float> grad_w_hat,
                         std::int64_t n, std::int64_t k, const AffineSpec& spec, std::span<float> grad_w,
                         std::span<float> grad_scales, std::span<float> grad_zero_points);

}  // namespace crumb::quant
