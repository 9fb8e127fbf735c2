// Weights that stay packed (E2E-QP): to float or bfloat16 and the gradient of their scales. arXiv:2407.11062
// §3.3.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"
#include "quant/spec.h"

namespace crumb::kernels {

/// words        [N, K * bits / 32]  dense little-endian bit stream along K (quant::WordLayout::kDense); K *
/// bits % 32 == 0 zero_points  [N, K/G]            u8, <= 2^bits - 1 scales       [N, K/G]            f32,
/// used as they are (any sign)
struct PackedArgs {
  const std::uint32_t* words;
  const std::uint8_t* zero_points;
  const float* scales;
  std::int64_t n, k, group_size;
  int bits;  // 2, 3, 4 or 8
};

/// CRUMB_CHECKs bits, K * bits % 32 and K % G.
PackedArgs packed_args(const std::uint32_t* words, const std::uint8_t* zero_points, const float* scales,
                       std::int64_t n, std::int64_t k, const quant::AffineSpec& spec);

/// w_hat (out) [N, K] = (code - zero_point) * scale. Bit for bit quant::dequantize.
void dequantize_packed(const PackedArgs& args, float* w_hat);
void dequantize_packed_bf16(const PackedArgs& args, std::uint16_t* w_hat);

/// grad_scale (out) [N, K/G] = sum over the group of (code - zero_point) * grad_w_hat. args.scales is not
/// read. Error against the f64 sum at most (G + 2) * 2^-24 * sum |terms|.
void packed_scale_gradient(const PackedArgs& args, const float* grad_w_hat, float* grad_scale);

/// Works on rows [begin, end). Variants neither allocate nor throw.
struct PackedFunctions {
  void (*dequantize)(const PackedArgs&, std::int64_t begin, std::int64_t end, float* w_hat) noexcept;
  void (*dequantize_bf16)(const PackedArgs&, std::int64_t begin, std::int64_t end,
                          std::uint16_t* w_hat) noexcept;
  void (*scale_gradient)(const PackedArgs&, std::int64_t begin, std::int64_t end, const float* grad_w_hat,
                         float* grad_scale) noexcept;
};
std::span<const Variant<PackedFunctions>> packed_variants();
const PackedFunctions* packed_ref() noexcept;
const PackedFunctions* packed_avx2() noexcept;
const PackedFunctions* packed_avx512() noexcept;

}  // namespace crumb::kernels
