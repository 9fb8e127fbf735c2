// Where learned ranges may start: the ends of each group's range of least squared error, in whatever numbers
// a method has for them (OmniQuant's logits, SignRound's factors).
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "nn/torch.h"

namespace crumb::methods {

/// Of equal shape, a number for each group.
struct RangeEnds {
  at::Tensor upper, lower;
};

/// 25 ratios of a range, evenly spaced from 0.3 up to, and without, `most`: that is where a search begins.
std::vector<double> range_ratios(double most);

/// For each group the ends with the least error among `start` and those made of `values`: both ends with one
/// value, then the upper end alone, then the lower one; what is better stays. Never worse than `start`.
/// `error_of` gives one number a group, in the shape of the ends. Out of sight of autograd.
RangeEnds search_range_ends(const RangeEnds& start, std::span<const double> values,
                            const std::function<at::Tensor(const RangeEnds&)>& error_of);

/// Weights of squared errors for k columns, [k] f32: `energy`, or ones where that is empty.
at::Tensor error_weights(std::span<const float> energy, std::int64_t k, const at::TensorOptions& options);

}  // namespace crumb::methods
