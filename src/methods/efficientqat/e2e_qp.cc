#include "methods/efficientqat/e2e_qp.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "methods/adamw.h"
#include "methods/schedule.h"
#include "nn/functional.h"
#include "nn/head_loss.h"

namespace crumb::methods::efficientqat {

using at::Tensor;

struct E2eQp::Impl {
  nn::CausalLm& lm;
  recipe::E2eQp how;
  recipe::Performance performance;
  std::vector<double> lr;
  std::vector<Tensor*> scales;
  std::unique_ptr<AdamW> optimizer;
  nn::RopeTable rope;

  // Loss of the final hidden state x [B, T, H] and its gradient with respect to x.
  std::pair<double, Tensor> head(const Tensor& x, const E2eBatch& batch) const {
    const std::int64_t b = x.size(0), t = x.size(1), h = x.size(2);
    const at::AutoGradMode grad(true);
    const Tensor leaf = x.detach().requires_grad_(true);
    const Tensor normed = lm.last_norm(leaf);
    nn::HeadLoss loss;
    Tensor grad_normed;
    if (how.loss == recipe::E2eLoss::kCrossEntropy) {  // position t predicts token t + 1
      const Tensor states = normed.detach().narrow(1, 0, t - 1).reshape({b * (t - 1), h});
      loss = nn::head_cross_entropy(states, lm.head, batch.ids.narrow(1, 1, t - 1).reshape({b * (t - 1)}),
                                    performance.logits_chunk_tokens, lm.compute, true);
      grad_normed = at::constant_pad_nd(loss.grad_hidden.view({b, t - 1, h}), {0, 0, 0, 1});
    } else {
      CRUMB_CHECK(batch.teacher_hidden.defined());
      loss = nn::head_kl(normed.detach().view({b * t, h}), batch.teacher_hidden.reshape({b * t, h}), lm.head,
                         performance.logits_chunk_tokens, lm.compute, true);
      grad_normed = loss.grad_hidden.view({b, t, h});
    }
    normed.backward(grad_normed);
    return {loss.loss, leaf.grad()};
  }

  // Adds the gradients of weight * loss to the scales; returns the loss. Gradient checkpointing by hand
  // (arXiv:1604.06174): block inputs are kept, block i is run again when its gradient is due.
  double accumulate(const E2eBatch& batch, double weight) {
    std::vector<Tensor> inputs;
    Tensor x = lm.embed(batch.ids);
    if (!performance.activation_checkpointing) {
      const at::AutoGradMode grad(true);
      for (nn::DecoderBlock& block : lm.blocks) x = block.forward(x, rope, lm.compute);
      auto [loss, grad_x] = head(x, batch);
      x.backward(grad_x * weight);
      return loss;
    }
    {
      const at::NoGradGuard no_grad;
      for (nn::DecoderBlock& block : lm.blocks) {
        throw_if_interrupted("methods.e2e_qp");
        inputs.push_back(x);
        x = block.forward(x, rope, lm.compute);
      }
    }
    auto [loss, grad_x] = head(x, batch);
    grad_x = grad_x * weight;
    for (std::size_t i = lm.blocks.size(); i-- > 0;) {
      const at::AutoGradMode grad(true);
      const Tensor leaf = inputs[i].detach().requires_grad_(i > 0);
      inputs.pop_back();
      lm.blocks[i].forward(leaf, rope, lm.compute).backward(grad_x);
      if (i > 0) grad_x = leaf.grad();
    }
    return loss;
  }
};

E2eQp::E2eQp(nn::CausalLm& lm, const recipe::E2eQp& how, const recipe::Performance& performance,
             std::int64_t steps)
    : impl_(new Impl{
          lm, how, performance, warmup_cosine_schedule(how.lr, how.warmup_ratio, steps), {}, nullptr, {}}) {
  std::vector<AdamW::Parameter> parameters;
  for (nn::DecoderBlock& block : lm.blocks) {
    for (const model::LinearRole role : block.roles()) {
      nn::QuantLinear& linear = block.linear(role);
      CRUMB_CHECK(linear.state == nn::QuantLinear::State::kPacked);
      linear.scale = linear.scale.detach().to(at::kFloat).contiguous().requires_grad_(true);
      impl_->scales.push_back(&linear.scale);
      parameters.push_back({linear.scale, 0});
    }
  }
  impl_->optimizer =
      std::make_unique<AdamW>(std::move(parameters), nn::AdamWSettings{.weight_decay = how.weight_decay});
}

E2eQp::~E2eQp() = default;

E2eStep E2eQp::step(const std::vector<E2eBatch>& micro_batches) {
  CRUMB_CHECK(!micro_batches.empty() && steps_taken() < static_cast<std::int64_t>(impl_->lr.size()));
  E2eStep result;
  result.lr = impl_->lr[static_cast<std::size_t>(steps_taken())];
  const std::int64_t length = micro_batches.front().ids.size(1);
  if (!impl_->rope.cos.defined() || impl_->rope.cos.size(0) < length) {
    impl_->rope = nn::make_rope_table(impl_->lm.config, length, impl_->lm.device());
  }
  const double weight = 1.0 / static_cast<double>(micro_batches.size());
  for (const E2eBatch& batch : micro_batches) {
    result.micro_losses.push_back(impl_->accumulate(batch, weight));
    result.loss += result.micro_losses.back() * weight;
  }
  result.gradient_norm = impl_->optimizer->gradient_norm();
  if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
    for (Tensor* scale : impl_->scales) scale->mutable_grad() = Tensor();
    fail(ErrorKind::kNumerics, "methods.e2e_qp", "step ", steps_taken(), ": loss ", result.loss,
         ", gradient norm ", result.gradient_norm,
         "; want finite numbers; lower e2e_qp.lr and begin again with --restart");
  }
  // As torch's clip_grad_norm_: the factor is max / (norm + 1e-6), never above 1.
  if (impl_->how.max_grad_norm > 0) {
    const double factor = impl_->how.max_grad_norm / (result.gradient_norm + 1e-6);
    if (factor < 1) impl_->optimizer->scale_gradients(factor);
  }
  impl_->optimizer->step({result.lr});
  return result;
}

std::int64_t E2eQp::steps_taken() const {
  return impl_->optimizer->steps_taken();
}

E2eQp::State E2eQp::state() const {
  State state{steps_taken(), {}, impl_->optimizer->first_moments(), impl_->optimizer->second_moments()};
  for (const Tensor* scale : impl_->scales) state.scales.push_back(scale->detach());
  return state;
}

void E2eQp::restore(const State& state) {
  const at::NoGradGuard no_grad;
  CRUMB_CHECK(state.scales.size() == impl_->scales.size());
  for (std::size_t i = 0; i < state.scales.size(); ++i) impl_->scales[i]->copy_(state.scales[i]);
  impl_->optimizer->restore(state.steps, state.first_moments, state.second_moments);
}

void E2eQp::finish() {
  for (Tensor* scale : impl_->scales) *scale = scale->detach();
}

}  // namespace crumb::methods::efficientqat
