// AWQ: channels with large activations are scaled up before rounding, by a power that a search finds.
// arXiv:2306.00978; docs/methods/awq.md. Everything is a pure function of weights and statistics: the site
// where scales are merged is the caller's.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/torch.h"
#include "quant/quantized_linear.h"

namespace crumb::methods::awq {

/// Scales of every group as autoawq makes them, with low = min(w, 0) and high = max(w, 0):
///
///   kAsym        scale = max(high - low, 1e-5) / Q,               zero_point = rne(-low / scale)
///   kSignedSym   scale = max(|w|_max, 1e-5) / (2^(bits-1) - 1),   zero_point = 2^(bits-1)
///
/// autoawq does not widen the range of a group of one sign to hold 0; it clamps the zero point afterwards,
/// which saturates most of the group (and all of a constant one).
///
/// w         [N, K] f32
/// clip_max  [N, K/G] f32 or undefined: weights are clamped to +- this first
/// scale_f16 the scale is rounded to binary16 (quant/stored_scale.h) before zero point and codes are chosen
/// Throws InvalidArgument, Numerics as check_weight.
quant::QuantizedLinear round_to_nearest(const at::Tensor& w, const at::Tensor& clip_max,
                                        const quant::AffineSpec& spec, bool scale_f16);

/// Mean of |w| / (its group's largest |w| + 1e-6) over the rows of all consumers of a site. [K] f32.
at::Tensor weight_mean(const std::vector<at::Tensor>& weights, const quant::AffineSpec& spec);

struct ScaleSearch {
  int steps = 20;   // ratios r = 0, 1/steps, ... (steps - 1)/steps
  bool duo = true;  // divide by weight_mean^(1 - r); ratio 0 is then not the identity
  bool scale_f16 = true;
};

struct ScaleSearchResult {
  std::vector<double> losses;  // of each ratio
  int best = 0;                // the first of the least
  double ratio = 0;            // best / steps
  at::Tensor scales;           // [K] f32, > 0: W' = W diag(s), x' = x / s
};

/// Tries every ratio, each from the original weights:
///
///   s = max(x_mean^r / (w_mean^(1 - r) + 1e-4), 1e-4)      duo;  s = max(x_mean^r, 1e-4) otherwise
///   s <- s / sqrt(max(s) min(s))
///   loss = mean over tokens and rows of ((Q(W s) / s - W) x)^2 = tr(E G E^T) / (tokens * N)
///
/// arXiv:2306.00978 eq. (4), (5), with autoawq's normalization. The Gram form makes the loss exact without
/// keeping X, for one N K^2 product a ratio in the dtype of `gram`.
///
/// weights  [N_i, K] f32 of all linears that read the site; one scale for all
/// x_mean   [K] f32 >= 0: mean |x| of each channel
/// gram     [K, K] f64 or f32: X^T X over `tokens` tokens
/// Throws InvalidArgument for shapes and when weights is empty, Numerics for values that are not finite.
ScaleSearchResult search_scales(const std::vector<at::Tensor>& weights, const at::Tensor& x_mean,
                                const at::Tensor& gram, std::int64_t tokens, const quant::AffineSpec& spec,
                                const ScaleSearch& search);

struct ClipSearch {
  int steps = 20;           // largest |w| of a group times 1 - i / steps
  double max_shrink = 0.5;  // for i < max_shrink * steps
  bool scale_f16 = true;
};

/// The largest weight that each group keeps: of the candidates the first with the least
///
///   d G_gg d^T,   d = Q(clamp(w, -c, c)) - w of the group, G_gg its block of `gram`
///
/// which is the group's own squared output error, without the other groups' (as autoawq). w [N, K] f32 and
/// gram [K, K] are those after scaling: W s and G / (s s^T). Returns [N, K/G] f32. Memory: one [N, K] copy
/// and its codes; N K G multiply-adds a candidate.
at::Tensor search_clip(const at::Tensor& w, const at::Tensor& gram, const quant::AffineSpec& spec,
                       const ClipSearch& search);

}  // namespace crumb::methods::awq
