// What logits say about one position. Sums are f64 over f32 exponentials: exact to about 1e-7 relative for
// any vocabulary.
#pragma once
#include <cstdint>
#include <span>

namespace crumb::eval {

/// log sum_v exp(logits[v]), shifted by the maximum. NaN when a logit is NaN or +infinity.
double log_sum_exp(std::span<const float> logits) noexcept;

/// Cross-entropy in nats: log_sum_exp(logits) - logits[target].
double cross_entropy(std::span<const float> logits, std::int32_t target) noexcept;

/// KL(p || q) in nats for p = softmax(reference), q = softmax(logits); both [V]. Never below 0.
double kl_divergence(std::span<const float> reference, std::span<const float> logits) noexcept;

/// Index of the largest logit, the lowest one among equals.
std::int32_t argmax(std::span<const float> logits) noexcept;

}  // namespace crumb::eval
