// Fake quantization and its straight-through gradients: quant/affine.h Q1, Q2, Q3 at the speed of memory.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"
#include "quant/spec.h"

namespace crumb::kernels {

/// w           [N, K]    f32, contiguous, finite
/// scale       [N, K/G]  f32, clamped to [kMinScale, kMaxScale] here
/// zero_point  [N, K/G]  f32, rounded and clamped to the grid here
/// As K % G == 0, a weight is a list of N * K / G groups of G neighbors; the kernels see nothing else.
struct FakeQuantArgs {
  const float* w;
  const float* scale;
  const float* zero_point;
  std::int64_t groups;        // N * K / G
  std::int64_t group_size;    // G >= 1
  float zero_low, zero_high;  // the grid's zero points
  float max_code;             // 2^bits - 1
};

/// CRUMB_CHECKs that G divides K.
FakeQuantArgs fake_quant_args(const float* w, const float* scale, const float* zero_point, std::int64_t n,
                              std::int64_t k, const quant::AffineSpec& spec);

/// w_hat (out) [N, K] f32. Bit for bit quant::fake_quant; may not alias w. Independent of the number of
/// threads.
void fake_quant(const FakeQuantArgs& args, float* w_hat);

/// The same, rounded to bfloat16 (half to even) on the way out.
void fake_quant_bf16(const FakeQuantArgs& args, std::uint16_t* w_hat);

/// Q3. grad_w_hat [N, K]; grad_w (out) [N, K], may be grad_w_hat itself; grad_scale, grad_zero_point (out)
/// [N, K/G], the latter may be nullptr when zero points are not trained. grad_w is bit for bit
/// quant::fake_quant_backward; the group sums run in f32 over lanes and differ from its f64 sums by at most
/// (G + 2) * 2^-24 * sum |terms|. Independent of the number of threads.
void fake_quant_backward(const FakeQuantArgs& args, const float* grad_w_hat, float* grad_w, float* grad_scale,
                         float* grad_zero_point);

/// Works on groups [begin, end). Variants neither allocate nor throw.
struct FakeQuantFunctions {
  void (*forward)(const FakeQuantArgs&, std::int64_t begin, std::int64_t end, float* w_hat) noexcept;
  void (*forward_bf16)(const FakeQuantArgs&, std::int64_t begin, std::int64_t end,
                       std::uint16_t* w_hat) noexcept;
  void (*backward)(const FakeQuantArgs&, std::int64_t begin, std::int64_t end, const float* grad_w_hat,
                   float* grad_w, float* grad_scale, float* grad_zero_point) noexcept;
};
std::span<const Variant<FakeQuantFunctions>> fake_quant_variants();
const FakeQuantFunctions* fake_quant_ref() noexcept;
const FakeQuantFunctions* fake_quant_avx2() noexcept;
const FakeQuantFunctions* fake_quant_avx512() noexcept;

}  // namespace crumb::kernels
