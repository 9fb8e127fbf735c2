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
