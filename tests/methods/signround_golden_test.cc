// SignRound against auto-round on one linear: gradients, every loss, and the result.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "methods/baseline_golden.h"
#include "methods/signround/signround.h"
#include "nn/functional.h"
#include "nn/matmul.h"
#include "quant/restate.h"

namespace crumb::methods::signround {
namespace {

using namespace crumb::test;

const nn::Compute kCompute{nn::Precision::kF32, true};

Options golden_options() {
  Options o;
  o.iterations = 50;
  o.scale_f16 = false;
  o.scale_floor = 1e-8f;
  return o;
}

// Norm of the difference over the norm.
double relative_norm(const at::Tensor& a, const at::Tensor& b) {
  return (a.flatten() - b.flatten()).norm().item<double>() / b.norm().item<double>();
}

// The package's codes, zero point subtracted and scales signed as its own: [N, K] and [N, K/G].
void expect_result(const Baseline& golden, const std::string& name, quant::QuantizedLinear q) {
  const bool symmetric = q.spec.grid == quant::Grid::kSignedSym;
  if (symmetric) q = quant::make_symmetric(std::move(q));
  const int offset = symmetric ? 1 << (q.spec.bits - 1) : 0;
  const std::int64_t differ =
      differing(codes_of(q) - offset, tensor(golden.file, name + ".codes").to(at::kInt));
  const double scale = relative_difference(scales_of(q), tensor(golden.file, name + ".scale"));
  EXPECT_EQ(differ, 0);
  EXPECT_LT(scale, 1e-6);
  if (!symmetric) {
    EXPECT_EQ(differing(zeros_of(q), tensor(golden.file, name + ".zero")), 0);
  }
}

TEST(SignRoundGolden, GradientsOfARandomPointEqualThePackage) {
  CRUMB_OPEN_BASELINE(golden, "signround");
  const auto cases = golden.cases("_static.codes", "sym");
  EXPECT_FALSE(cases.empty());
  for (const BaselineCase& c : cases) {
    const std::string name = c.name + "_static";
    SCOPED_TRACE(name);
    const at::Tensor w = golden.weight;
    const std::array<std::int64_t, 2> groups = {w.size(0), c.spec.groups(w.size(1))};
    const auto leaf = [&](const char* which, at::IntArrayRef shape) {
      return tensor(golden.file, name + "." + which).view(shape).requires_grad_(true);
    };
    const Parameters p{leaf("value", w.sizes()), leaf("min_scale", groups), leaf("max_scale", groups)};
    const at::Tensor upstream =
        ((at::arange(w.numel(), at::kLong) * 37 + 11).remainder(101) - 50).to(at::kFloat).view_as(w) / 64;
    const at::Tensor w_hat = fake_quant(w, p, c.spec, golden_options());
    w_hat.backward(upstream);
    const auto difference = [&](const char* which, const at::Tensor& parameter) {
      return relative_norm(parameter.grad(), tensor(golden.file, name + ".grad_" + which));
    };
    const double value = difference("value", p.value), min = difference("min_scale", p.min_scale),
                 max = difference("max_scale", p.max_scale);
    EXPECT_LT(value, 1e-6);
    EXPECT_LT(min, 1e-5);
    EXPECT_LT(max, 1e-5);
    const auto q = quantize(w, p, c.spec, golden_options());
    EXPECT_TRUE(at::equal(dequantized(q), w_hat.detach()));
    expect_result(golden, name, q);
  }
}

// The largest relative difference of losses over the curve; checks the rest when `options` are the golden
// ones.
double run(const Baseline& golden, const BaselineCase& c, const Options& options, bool check) {
  const at::Tensor &w = golden.weight, &x = golden.x;
  const LinearResult r = train_linear(w, x, at::mm(x, w.t()), c.spec, options, kCompute);
  const auto losses = golden.file.read_f32(c.name + ".loss");
  double worst = 0;
  for (std::size_t k = 0; k < losses.size(); ++k)
    worst = std::max(worst, std::abs(r.losses.at(k) / losses[k] - 1));
  if (!check) return worst;
  EXPECT_EQ(r.best_iteration, golden.file.read_i32(c.name + ".best_iter").at(0));
  const auto difference = [&](const char* which, const at::Tensor& ours) {
    const std::string name = c.name + ".best." + which;
    if (golden.file.find(name) == nullptr) return 0.0;
    return (ours.flatten() - tensor(golden.file, name).flatten()).abs().max().item<double>();
  };
  const double value = difference("value", r.best.value), min = difference("min_scale", r.best.min_scale),
               max = difference("max_scale", r.best.max_scale);
  EXPECT_LT(value, 1e-6);
  EXPECT_LT(min, 1e-6);
  EXPECT_LT(max, 1e-6);
  expect_result(golden, c.name, r.linear);
  return worst;
}

TEST(SignRoundGolden, GradientsOfTheFirstIterationEqualThePackage) {
  CRUMB_OPEN_BASELINE(golden, "signround");
  const at::Tensor &w = golden.weight, &x = golden.x, target = at::mm(x, w.t());
  for (const BaselineCase& c : golden.cases(".g0.min_scale", "sym")) {
    SCOPED_TRACE(c.name);
    Trainer trainer({w}, c.spec, golden_options());
    const at::Tensor loss =
        nn::mse_loss(nn::linear(x, trainer.weight(0), {}, kCompute), target, kCompute) * 1000;
    loss.backward();
    const Parameters& p = trainer.current(0);
    for (const auto& [which, parameter] : {std::pair{"value", p.value}, std::pair{"min_scale", p.min_scale},
                                           std::pair{"max_scale", p.max_scale}}) {
      const std::string name = c.name + ".g0." + which;
      if (golden.file.find(name) != nullptr) {
        EXPECT_LT(relative_norm(parameter.grad(), tensor(golden.file, name)), 1e-5) << which;
      }
    }
  }
}

TEST(SignRoundGolden, LossesOfEveryIterationAndTheResultEqualThePackage) {
  CRUMB_OPEN_BASELINE(golden, "signround");
  const auto cases = golden.cases(".loss", "sym");
  EXPECT_FALSE(cases.empty());
  for (const BaselineCase& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_LT(run(golden, c, golden_options(), true), 2e-6);
  }
}

TEST(SignRoundGolden, TheBoundNoticesALearningRateThatIsOffByOnePercent) {
  CRUMB_OPEN_BASELINE(golden, "signround");
  Options off = golden_options();
  off.lr = 1.01 / static_cast<double>(off.iterations);
  EXPECT_GT(run(golden, golden.cases(".loss", "sym").front(), off, false), 2e-6);
}

}  // namespace
}  // namespace crumb::methods::signround
