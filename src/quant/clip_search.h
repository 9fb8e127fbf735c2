// Where to start: the clipping ratio of every group that gives the least squared error.
#pragma once
#include <cstdint>
#include <span>

#include "quant/spec.h"

namespace crumb::quant {

/// Ratios tried: `steps` of them, evenly spaced from min_ratio to 1 (min-max), both included.
struct ClipSearch {
  double min_ratio = 0.30;
  int steps = 25;
};

/// Start of every group by search. Candidates are the min-max range times each ratio, each with every zero
/// point of the grid next to the range's own; the one with the least
///
///   sum over the group of energy[k] * (w_hat - w)^2            docs/math.md (Q6)
///
/// is taken, the first when several are equal. Ratio 1 with the min-max zero point is among them, so the
/// result is never worse than init_minmax under this measure.
///
/// w        [N, K] f32, finite
/// energy   [K] f32 >= 0, the mean square of each input of the linear; empty: all ones (plain least squares)
/// scales (out), zero_points (out) [N, K/G] f32; zero points are integers in the grid's range
/// scale_f16: candidates are judged with the scale rounded to binary16, as a file will hold it
void init_clip_search(std::span<const float> w, std::int64_t n, std::int64_t k, const AffineSpec& spec,
                      const ClipSearch& search, std::span<const float> energy, bool scale_f16,
                      std::span<float> scales, std::span<float> zero_points);

}  // namespace crumb::quant
