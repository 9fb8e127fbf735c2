#include "methods/adamw.h"

#include <cmath>

#include "base/check.h"

namespace crumb::methods {

using at::Tensor;

AdamW::AdamW(std::vector<Parameter> parameters, const nn::AdamWSettings& settings)
    : parameters_(std::move(parameters)), settings_(settings) {
  for (const Parameter& p : parameters_) {
    CRUMB_CHECK(p.value.scalar_type() == at::kFloat && p.value.is_contiguous());
    m_.push_back(at::zeros_like(p.value));
    v_.push_back(at::zeros_like(p.value));
  }
}

void AdamW::step(const std::vector<double>& lr) {
  ++steps_;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Tensor& w = parameters_[i].value;
    if (!w.grad().defined()) continue;
    nn::adamw_step(w, w.grad(), m_[i], v_[i], steps_, lr.at(parameters_[i].set), settings_);
    w.mutable_grad() = Tensor();
  }
}

// Called by autograd when a leaf's gradient is complete.
class AdamW::StepHook final : public torch::autograd::PostAccumulateGradHook {
 public:
  StepHook(AdamW& owner, std::size_t index, double lr, double& sum) : owner_(owner), index_(index), lr_(lr), sum_(sum) {}
  void operator()(const at::Tensor& leaf) override {
    Tensor w = leaf;
    sum_ += nn::sum_of_squares(w.grad());
    nn::adamw_step(w, w.grad(), owner_.m_[index_], owner_.v_[index_], owner_.steps_, lr_, owner_.settings_);
    w.mutable_grad() = Tensor();
  }

 private:
  AdamW& owner_;
  std::size_t index_;
  double lr_;
  double& sum_;
};

double AdamW::backward_and_step(const Tensor& loss, const std::vector<double>& lr) {
  ++steps_;
  double sum = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(
        parameters_[i].value, std::make_unique<StepHook>(*this, i, lr.at(parameters_[i].set), sum));
  }
  loss.backward();
  for (Parameter& p : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(p.value, nullptr);
  return std::sqrt(sum);
}

double AdamW::gradient_norm() const {
  double sum = 0;
  for (const Parameter& p : parameters_) {
    if (p.value.grad().defined()) sum += nn::sum_of_squares(p.value.grad());
  }
  return std::sqrt(sum);
}

void AdamW::scale_gradients(double factor) {
  const at::NoGradGuard no_grad;
  for (Parameter& p : parameters_) {
    if (p.value.grad().defined()) p.value.mutable_grad().mul_(factor);
  }
}

void AdamW::restore(std::int64_t steps, const std::vector<Tensor>& m, const std::vector<Tensor>& v) {
  CRUMB_CHECK(m.size() == m_.size() && v.size() == v_.size());
  for (std::size_t i = 0; i < m.size(); ++i) {
    m_[i].copy_(m[i]);
    v_[i].copy_(v[i]);
  }
  steps_ = steps;
}

}  // namespace crumb::methods
