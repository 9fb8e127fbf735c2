// Losses of next-token predictions at the head, without ever holding tokens x vocabulary.
#pragma once
#include "nn/compute.h"

namespace crumb::nn {

/// A mean loss over rows and its gradient with respect to the hidden states that entered the head.
struct HeadLoss {
  double loss = 0;
  at::Tensor grad_hidden;  // [M, hidden_size] f32; undefined when not asked for
};

/// Mean over the M rows of -log softmax(hidden head^T)[target]. The head is frozen: its gradient is not
/// formed.
///
/// hidden [M, hidden_size] f32, after the final norm; head [V, hidden_size], any float dtype; targets [M] i64
/// in [0, V). Logits exist for `chunk` rows at a time (chunk * V * 4 bytes). Sums in f64.
HeadLoss head_cross_entropy(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                            std::int64_t chunk, const Compute& compute, bool with_gradient);

/// Mean over rows of KL(teacher || student) = sum_v p_t (log p_t - log p_s), both through the same frozen
/// head. The teacher is given by its hidden states: they give its logits exactly and are smaller than the
/// logits' 300 largest entries for a hidden size of 576.
HeadLoss head_kl(const at::Tensor& hidden, const at::Tensor& teacher_hidden, const at::Tensor& head,
                 std::int64_t chunk, const Compute& compute, bool with_gradient);

}  // namespace crumb::nn
