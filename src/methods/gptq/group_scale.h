// Scale and zero point of one group, as GPTQ finds them when it comes to the group.
#pragma once
#include <cstdint>
#include <span>

#include "quant/clip_search.h"
#include "quant/spec.h"

namespace crumb::methods::gptq {

/// How the range of a group is found. Ranges are widened to hold 0, so every zero point lies in [0, Q].
enum class RangeRule {
  kMinMax,       // smallest and largest weight
  kErrorSearch,  // that range times 1, 1 - 1/steps, ...: least sum of |w_hat - w|^norm
  kClipSearch,   // quant/clip_search.h, squared errors weighted by the Hessian's diagonal
};

struct RangeSearch {
  RangeRule rule = RangeRule::kMinMax;
  double norm = 2.4;         // kErrorSearch
  int steps = 100;           // kErrorSearch: ranges are tried in steps of 1 / steps
  double max_shrink = 0.8;   // kErrorSearch: floor(max_shrink * steps) of them
  quant::ClipSearch clip{};  // kClipSearch
};

struct GroupScale {
  float scale = 1, zero_point = 0;
};

/// kMinMax, with low = min(w, 0) and high = max(w, 0):
///
///   kAsym        scale = (high - low) / Q,            zero_point = rne(-low / scale)
///   kSignedSym   scale = 2 max(-low, high) / Q,       zero_point = 2^(bits-1), or 2^(bits-1) - 1 where the
///                positive side is the larger (never with `parity`, as the package knows one zero point only)
///
/// A group of zeros has the range [-1, 1]. The scale is rounded to what is stored before the zero point is
/// found when `scale_f16` (quant/stored_scale.h).
///
/// w       one group, finite; spec.group_size is not looked at
/// energy  as many weights >= 0, or empty; used by kClipSearch
GroupScale find_group_scale(std::span<const float> w, std::span<const float> energy,
                            const quant::AffineSpec& spec, const RangeSearch& search, bool scale_f16,
                            bool parity);

}  // namespace crumb::methods::gptq
