// Choosing the next token from logits.
#pragma once
#include <cstdint>
#include <span>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace crumb::eval {

struct SamplerOptions {
  double temperature = 0.8;  // logits are divided by it; 0: always the most likely token
  std::int64_t top_k = 0;    // only the k most likely tokens; 0: all
  double top_p = 0.95;       // of these, the fewest whose probability reaches p; 1: all
  std::uint64_t seed = 0;
  double min_p = 0;               // of these, those at least min_p times as likely as the likeliest; 0: all
  double repetition_penalty = 1;  // above 1: tokens that were there already become less likely; 1: off
};

/// Applies, in transformers' order: repetition penalty, temperature, top-k, top-p, min-p; then draws.
/// llama.cpp has the temperature last, so there top-p and min-p see the untempered probabilities; at
/// temperature 1 both orders agree.
///
/// The penalty is CTRL's (arXiv:1909.05858, section 4.1) as transformers has it: the logit of each token seen
/// so far, once however often it was there, is divided by the penalty if positive and multiplied by it if
/// negative. (The paper divides either; that would make a token of negative logit likelier. llama.cpp counts
/// the last 64 tokens; here all count.) It also acts on the most likely token at temperature 0.
///
/// The sequence depends only on the logits, the tokens observed and the seed; equal logits rank by id.
class Sampler {
 public:
  /// Throws InvalidArgument for a negative or non-finite temperature, a negative top_k, top_p outside (0, 1],
  /// min_p outside [0, 1], or a repetition penalty that is not a positive number.
  explicit Sampler(const SamplerOptions& options);
  /// Tokens of the prompt, for the repetition penalty.
  void observe(std::span<const std::int32_t> tokens);
  /// `logits` [V]. The token counts as observed from now on. Throws Numerics when a logit is NaN or
  /// +infinity, or all are -infinity. Costs a pass over the vocabulary; only as many candidates are sorted as
  /// the draw looks at.
  std::int32_t next(std::span<const float> logits);

 private:
  std::int32_t draw(std::span<const float> logits);
  void rank_more();
  double weight(std::size_t rank) const;  // of a ranked candidate, the likeliest one's is 1

  SamplerOptions options_;
  SplitMix64 random_;
  std::unordered_set<std::int32_t> seen_;
  std::vector<float> penalized_;
  std::vector<std::pair<float, std::int32_t>> candidates_;  // logit, id; the first ranked_ are in order
  std::size_t ranked_ = 0;
};

}  // namespace crumb::eval
