// E2E-QP: end-to-end training of the step sizes. EfficientQAT, arXiv:2407.11062 §3.3;
// docs/methods/efficientqat.md.
#pragma once
#include <memory>
#include <vector>

#include "nn/causal_lm.h"
#include "recipe/recipe.h"

namespace crumb::methods::efficientqat {

struct E2eStep {
  double loss = 0;           // mean over the step's micro-batches, before the update
  double gradient_norm = 0;  // before clipping
  double lr = 0;
  std::vector<double> micro_losses;
};

/// One micro-batch: ids [B, T] i64 and, for the KL loss, the teacher's hidden states after its final norm [B,
/// T, hidden_size].
struct E2eBatch {
  at::Tensor ids, teacher_hidden;
};

/// Trains the scales of a model whose block linears are packed. Codes, zero points, norms, embeddings and
/// head are frozen; the weight of one linear at a time is unpacked. Block activations are recomputed in the
/// backward pass (one hidden state per block is kept), logits exist for `logits_chunk` rows at a time.
///
/// Loss of a micro-batch: mean over its B (T - 1) predictions of the cross-entropy, or of KL(teacher ||
/// student) over its B T positions.
class E2eQp {
 public:
  /// lm's scales become leaves that want gradients; they are trained in place.
  E2eQp(nn::CausalLm& lm, const recipe::E2eQp& how, const recipe::Performance& performance,
        std::int64_t steps);
  ~E2eQp();

  /// One optimizer step over the micro-batches (their mean). Throws Numerics when a loss is not finite; the
  /// scales are then as before the step.
  E2eStep step(const std::vector<E2eBatch>& micro_batches);
  std::int64_t steps_taken() const;

  /// Scales and optimizer moments, in block and role order, for checkpoints; restore() continues bit for bit.
  struct State {
    std::int64_t steps = 0;
    std::vector<at::Tensor> scales, first_moments, second_moments;
  };
  State state() const;
  void restore(const State& state);

  /// Scales no longer want gradients.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace crumb::methods::efficientqat
