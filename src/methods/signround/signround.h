// SignRound (AutoRound): rounding offsets and ranges trained by the sign of their gradients.
// arXiv:2309.05516; docs/methods/signround.md.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "nn/compute.h"
#include "quant/quantized_linear.h"
#include "quant/stored_scale.h"

namespace crumb::methods::signround {

struct Options {
  std::int64_t iterations = 200;
  double lr = 0;            // of the offsets, falling linearly to 0; 0: 1 / iterations
  double range_lr = 0;      // of the range factors; 0: as lr
  bool tune_ranges = true;  // false: only offsets are trained
  bool scale_f16 = true;    // scales are binary16 numbers during training too, so the loss is the file's
  float scale_floor = quant::kMinStoredScale;  // least magnitude of a scale; no gradient below
};

/// What is trained for one weight [N, K]: offsets that start at 0, range factors that start at 1, or where
/// search_ranges() puts them.
struct Parameters {
  at::Tensor value;      // [N, K] f32: V, added inside the rounding
  at::Tensor min_scale;  // [N, K/G] f32 in [0, 1]: the group's range reaches from a * min(w, 0) ...
  at::Tensor max_scale;  // [N, K/G] f32 in [0, 1]: ... to b * max(w, 0)
};

/// w_hat = s (q - z), q = clamp(rne(w / s + V) + z, 0, Q)                       arXiv:2309.05516 §3
///
///   low = a min(w, 0), high = b max(w, 0) of the group
///   kAsym        s = max((high - low) / Q, floor),   z = rne(-low / s)
///   kSignedSym   s = +-max(|low|, high) / 2^(bits-1), at least `floor` in magnitude, negative unless
///                |low| > high, so that code 0 stands for the larger side;   z = 2^(bits-1)
///
/// Straight-through gradients as autograd of auto-round's functions gives them: d rne(x) = dx, also for z;
/// the clamps pass inside, both ends included. With t = rne(w / s + V), inside = (0 <= t + z <= Q) and g the
/// gradient of w_hat,
///
///   dV = g s inside
///   ds = sum of g ((q - z) - (inside ? w / s : low / s))          kSignedSym: outside the second term is 0
///   dlow = sum over the outside of g,  and ds flows on to low and high (kSignedSym: to the larger, halves to
///   equal ones); da = min(w, 0) dlow, db = max(w, 0) dhigh
///
/// w [N, K] f32, a constant. Returns [N, K] f32 with gradients for the three parameters; any device.
at::Tensor fake_quant(const at::Tensor& w, const Parameters& parameters, const quant::AffineSpec& spec,
                      const Options& options);

/// The start whose range factors, from 0.3 to 1, give the least squared error of each group, by a search over
/// ratios: of both ends, then of each alone; never worse than factors of 1. `energy` [K] weighs the errors:
/// the mean square of each input; empty: all ones.
Parameters search_ranges(const at::Tensor& w, const quant::AffineSpec& spec, const Options& options,
                         std::span<const float> energy);

/// The codes of that weight, by quant::quantize_one. Negative scales become positive ones with zero point
/// 2^(bits-1) - 1 (docs/math.md, Q5), so dequantizing gives fake_quant() up to the sign of zero.
quant::QuantizedLinear quantize(const at::Tensor& w, const Parameters& parameters,
                                const quant::AffineSpec& spec, const Options& options);

/// Trains the parameters of several linears on one loss: p <- p - lr_k sign(dp), lr_k = lr (1 - k /
/// iterations), range factors kept in [0, 1]. Keeps the parameters of the iteration with the least loss,
/// before its update. Memory: four [N, K] f32 beside the weights.
class Trainer {
 public:
  /// weights [N, K] f32; throws as check_weight. `starts`: of each weight, from search_ranges(); empty: the
  /// plain ones.
  Trainer(std::vector<at::Tensor> weights, const quant::AffineSpec& spec, const Options& options,
          std::vector<Parameters> starts = {});

  /// The i-th weight for the next forward pass.
  at::Tensor weight(std::size_t i) const;
  /// The loss of weights that weight() gave since the last step: its backward pass and the update. Returns
  /// false, and changes nothing, when it is not finite.
  bool step(const at::Tensor& loss);

  double lr() const { return lr_; }  // of the offsets in the next step
  std::int64_t steps_taken() const { return static_cast<std::int64_t>(losses_.size()); }
  const std::vector<double>& losses() const { return losses_; }    // before each update
  std::int64_t best_iteration() const { return best_iteration_; }  // the first of the least loss
  const Parameters& current(std::size_t i) const { return current_[i]; }
  const Parameters& best(std::size_t i) const { return best_[i]; }
  quant::QuantizedLinear quantized(std::size_t i) const;  // of best(i)

 private:
  quant::AffineSpec spec_;
  Options options_;
  std::vector<at::Tensor> weights_;
  std::vector<Parameters> current_, best_;
  std::vector<double> losses_;
  std::int64_t best_iteration_ = 0;
  float lr_ = 0, range_lr_ = 0;
};

struct LinearResult {
  quant::QuantizedLinear linear;
  Parameters best;
  std::vector<double> losses;  // of each iteration, before its update; the first is round-to-nearest
  std::int64_t best_iteration = 0;
};

/// Trains one linear so that x w_hat^T comes near y: mean squared error over all tokens in every iteration.
///
/// w [N, K] f32, x [M, K] f32, y [M, N] f32 (without the bias). Throws InvalidArgument for shapes, Numerics
/// for values or a loss that are not finite.
LinearResult train_linear(const at::Tensor& w, const at::Tensor& x, const at::Tensor& y,
                          const quant::AffineSpec& spec, const Options& options, const nn::Compute& compute);

}  // namespace crumb::methods::signround
