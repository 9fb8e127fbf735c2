// Choosing the next token from logits.
#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace crumb::eval {

struct SamplerOptions {
  double temperature = 0.8;  // logits are divided by it; 0: always the most likely token
  std::int64_t top_k = 0;    // only the k most likely tokens; 0: all
  double top_p = 0.95;       // of these, the fewest whose probability reaches p; 1: all
  std::uint64_t seed = 0;
};

/// Applies temperature, then top-k, then top-p, then draws. The sequence depends only on the logits and the
/// seed; equal logits rank by id.
class Sampler {
 public:
  /// Throws InvalidArgument for a negative or non-finite temperature, a negative top_k, or top_p outside (0,
  /// 1].
  explicit Sampler(const SamplerOptions& options);
  /// `logits` [V]. Throws Numerics when one is NaN or +infinity, or all are -infinity.
  std::int32_t next(std::span<const float> logits);

 private:
  SamplerOptions options_;
  SplitMix64 random_;
  std::vector<std::pair<float, std::int32_t>> ranked_;  // logit, id
};

}  // namespace crumb::eval
