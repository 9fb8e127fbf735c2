// The scalar truth of activations that are rounded per token: the grid of one token's vector. Its codes are
// those of Q1 and Q2 (quant/affine.h).
//
//   T1  high = max(max x, 0), low = min(min x, 0), Q = 2^bits - 1
//       asymmetric  scale = (high - low) / Q                        zero_point = clamp(rne(-low / scale), 0,
//       Q) symmetric   scale = max(high, -low) / (2^(bits-1) - 1)      zero_point = 2^(bits-1): signed codes
//       scale clamped to [1e-5, 1e4]; true divisions in f32
//
// OmniQuant, arXiv:2308.13137 §4.1 (asymmetric), SmoothQuant, arXiv:2211.10438 (symmetric). What training
// simulates with nn/range_fake_quant.h (holds_zero), bit for bit.
#pragma once
#include <cstdint>
#include <span>

namespace crumb::quant {

inline constexpr float kMinTokenScale = 1e-5f, kMaxTokenScale = 1e4f;

/// Q1 and Q2 of a row: code = clamp(rne(x / scale) + zero_point, 0, top), x_hat = (code - zero_point) scale.
struct TokenGrid {
  float scale = 1;       // NaN where a number of the row is infinite or NaN, so that it is seen in x_hat
  float zero_point = 0;  // an integer
  float top = 0;         // the largest code
};

/// Of numbers in [low, high], low <= 0 <= high. bits 2 … 8.
TokenGrid token_grid(float low, float high, int bits, bool symmetric) noexcept;
/// Of the row itself.
TokenGrid token_grid(std::span<const float> x, int bits, bool symmetric) noexcept;

/// code - zero_point: in [-2^(bits-1), 2^(bits-1) - 1] if symmetric, else in [-Q, Q]. 0 in a row whose scale
/// is NaN.
std::int32_t centered_code(float x, const TokenGrid& grid) noexcept;
/// x_hat: centered_code * scale.
float fake_quant_one(float x, const TokenGrid& grid) noexcept;

/// Whether centered codes are int8 numbers: asymmetric ones of 8 bits are not.
inline bool fits_int8(int bits, bool symmetric) {
  return bits < 8 || (bits == 8 && symmetric);
}

}  // namespace crumb::quant
