// Learnable weight clipping: OmniQuant, arXiv:2308.13137 §3.2; docs/methods/omniquant.md.
#pragma once
#include <cstdint>
#include <span>

#include "nn/range_fake_quant.h"
#include "quant/quantized_linear.h"

namespace crumb::methods::omniquant {

/// kDefault: corrected where the authors' code loses something (docs/methods/omniquant.md lists each case).
/// kParity: the numbers of the authors' code, defects included.
enum class Mode { kDefault, kParity };

/// The grid of a weight [N, K].
struct WeightQuant {
  int bits = 4;                  // 2 … 8
  std::int64_t group_size = -1;  // weights along K sharing one scale; -1: K itself
  nn::RangeQuant::Scheme scheme = nn::RangeQuant::Scheme::kAsymmetric;
  Mode mode = Mode::kDefault;

  /// ceil(K / G): the last group of a row may be filled up with zeros (symmetric schemes in fake_quant only).
  std::int64_t groups(std::int64_t k) const;
  /// Of codes: kAsym, or kSignedSym for the symmetric schemes.
  quant::AffineSpec spec() const;
};

/// In kDefault: the smallest positive number of binary16, which stores the scales. The authors' 1e-5 in
/// kParity.
inline constexpr double kMinScale = 0x1p-24;

/// Logits of the clipping factors of one linear: gamma = sigmoid(up), beta = sigmoid(low). [N * groups, 1]
/// f32, row-major over (n, group). Undefined: no clipping (plain min-max).
struct LwcParameters {
  at::Tensor up, low;
};

/// Every logit at its start, 4: factors of 0.982.
LwcParameters start_lwc(std::int64_t n, std::int64_t k, const WeightQuant& how, const at::Device& device);

/// The factors, from 0.3 to the 0.982 of start_lwc(), with the least squared error of each group, by a search
/// over ratios: of both ends, then of each alone; never worse than start_lwc(). `energy` [K] weighs the
/// errors: the mean square of each input; empty: all ones. start_lwc() where groups do not divide K.
LwcParameters search_lwc(const at::Tensor& w, const WeightQuant& how, std::span<const float> energy);

/// w [N, K] f32 -> w_hat [N, K], eq. (2), with the gradients of nn::range_fake_quant; the factors' go on to
/// the logits. Throws InvalidArgument when G does not divide K and the scheme is not symmetric.
at::Tensor lwc_fake_quant(const at::Tensor& w, const LwcParameters& parameters, const WeightQuant& how);

/// What w_hat = (code - zero_point) * scale is made of. codes [N, K] u8; scale, zero_point [N * groups, 1]
/// f32. In kParity zero points may be negative or above 2^bits - 1. On the CPU.
struct LwcCodes {
  at::Tensor codes, scale, zero_point;
};
/// quant::quantize_one of each weight. Throws Unsupported when G does not divide K.
LwcCodes lwc_codes(const at::Tensor& w, const LwcParameters& parameters, const WeightQuant& how);

/// The codes in the form that every packed format is made of.
struct StoredLwc {
  quant::QuantizedLinear linear;
  std::int64_t moved_groups =
      0;  // kParity: groups whose zero point no format can store; they got kDefault's grid
};
/// `scale_f16`: scales are rounded to binary16 before the codes are chosen, so that codes fit the scale a
/// file stores. Throws as lwc_codes, and Numerics when a scale is not finite.
StoredLwc lwc_quantized(const at::Tensor& w, const LwcParameters& parameters, const WeightQuant& how,
                        bool scale_f16);

}  // namespace crumb::methods::omniquant
