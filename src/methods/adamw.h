// AdamW over a list of tensors in sets that each have a learning rate.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/optimizer_ops.h"

namespace crumb::methods {

class AdamW {
 public:
  struct Parameter {
    at::Tensor value;  // f32 leaf with a gradient after backward
    std::size_t set;   // index into the learning rates given to step()
  };

  AdamW(std::vector<Parameter> parameters, const nn::AdamWSettings& settings);
  AdamW(const AdamW&) = delete;
  AdamW& operator=(const AdamW&) = delete;

  /// One step with lr[set]; gradients are freed as soon as they are used. Parameters without a gradient stay.
  void step(const std::vector<double>& lr);
  /// loss.backward() that takes each parameter's step as soon as its gradient is there and frees it: all gradients are never in memory at
  /// once. For losses that use every parameter once and want no clipping. The result is that of backward() and step(). Returns the global
  /// gradient norm; when that is not finite the parameters are spoiled.
  double backward_and_step(const at::Tensor& loss, const std::vector<double>& lr);
  /// Global L2 norm of the gradients of all parameters, in f64.
  double gradient_norm() const;
  /// Multiplies every gradient.
  void scale_gradients(double factor);

  std::int64_t steps_taken() const { return steps_; }
  /// Moments in parameter order, for checkpoints.
  const std::vector<at::Tensor>& first_moments() const { return m_; }
  const std::vector<at::Tensor>& second_moments() const { return v_; }
  void restore(std::int64_t steps, const std::vector<at::Tensor>& m, const std::vector<at::Tensor>& v);

 private:
  class StepHook;
  std::vector<Parameter> parameters_;
  nn::AdamWSettings settings_;
  std::vector<at::Tensor> m_, v_;
  std::int64_t steps_ = 0;
};

}  // namespace crumb::methods
