#include "methods/signround/signround.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "base/str.h"
#include "methods/baseline_golden.h"
#include "methods/signround/block_training.h"
#include "support/expect_error.h"

namespace crumb::methods::signround {
namespace {

using quant::Grid;
using test::dequantized;

const nn::Compute kCompute{nn::Precision::kF32, true};
const std::vector<quant::AffineSpec> kSpecs = {{2, 32, Grid::kAsym},
                                               {4, 32, Grid::kAsym},
                                               {3, -1, Grid::kAsym},
                                               {2, 32, Grid::kSignedSym},
                                               {4, -1, Grid::kSignedSym}};

std::string name_of(const quant::AffineSpec& spec) {
  return cat(quant::scheme_name(spec), " ", quant::to_string(spec.grid));
}

Parameters random_parameters(const at::Tensor& w, const quant::AffineSpec& spec) {
  const std::array<std::int64_t, 2> groups = {w.size(0), spec.groups(w.size(1))};
  return {at::rand(w.sizes()) - 0.5, at::rand(groups) * 0.5 + 0.5, at::rand(groups) * 0.5 + 0.5};
}

Options exact() {
  Options o;
  o.scale_f16 = false;
  o.scale_floor = 1e-8f;
  return o;
}

// The same function in f64 with every rounding replaced by what it added at the point of expansion, and every
// clamp by the branch taken there: smooth, and its derivatives are the straight-through ones.
struct Frozen {
  const quant::AffineSpec& spec;
  std::vector<double> w, v, a, b;  // one group; a, b single
  std::vector<double> added;       // by the rounding of w / s + V
  std::vector<int> branch;         // -1 clamped low, 0 inside, 1 clamped high
  double added_to_zero = 0;
  bool positive = false;  // kSignedSym: sign of the scale

  std::pair<double, double> scale(double a_value, double b_value, bool record) {
    double low = 0, high = 0;
    for (const double x : w) {
      low = std::min(low, x);
      high = std::max(high, x);
    }
    low *= a_value;
    high *= b_value;
    if (spec.grid == Grid::kSignedSym) {
      const int half = 1 << (spec.bits - 1);
      if (record) positive = high < -low;
      return {positive ? -low / half : -high / half, half};
    }
    const double s = (high - low) / spec.max_code();
    if (record) added_to_zero = std::nearbyint(-low / s) + low / s;
    return {s, -low / s + added_to_zero};
  }

  void freeze(double a_value, double b_value, const std::vector<double>& offsets) {
    const auto [s, z] = scale(a_value, b_value, true);
    added.assign(w.size(), 0);
    branch.assign(w.size(), 0);
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double x = w[i] / s + offsets[i], t = std::nearbyint(x);
      added[i] = t - x;
      branch[i] = t + z < 0 ? -1 : t + z > spec.max_code() ? 1 : 0;
    }
  }

  double value(double a_value, double b_value, const std::vector<double>& offsets,
               const std::vector<double>& g) {
    const auto [s, z] = scale(a_value, b_value, false);
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double q = branch[i] < 0   ? 0
                       : branch[i] > 0 ? spec.max_code()
                                       : w[i] / s + offsets[i] + added[i] + z;
      sum += g[i] * s * (q - z);
    }
    return sum;
  }
};

class SignRound : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(5); }
};

TEST_F(SignRound, GradientsAreFiniteDifferencesWithFrozenRounding) {
  for (const quant::AffineSpec& spec : kSpecs) {
    SCOPED_TRACE(name_of(spec));
    const at::Tensor w = at::randn({6, 64}) * 0.1, g = at::randn({6, 64});
    Parameters p = random_parameters(w, spec);
    for (at::Tensor* t : {&p.value, &p.min_scale, &p.max_scale}) t->requires_grad_(true);
    fake_quant(w, p, spec, exact()).backward(g);
    const std::int64_t group = spec.group_of(64);
    int clamped = 0;
    for (std::int64_t i = 0; i < p.min_scale.numel(); ++i) {
      const auto part = [&](const at::Tensor& x) {
        const float* from = x.const_data_ptr<float>() + i * group;
        return std::vector<double>(from, from + group);
      };
      Frozen f{spec, part(w), {}, {}, {}, {}, {}};
      const std::vector<double> v = part(p.value), upstream = part(g);
      const double a = p.min_scale.flatten()[i].item<double>(), b = p.max_scale.flatten()[i].item<double>();
      f.freeze(a, b, v);
      for (const int branch : f.branch) clamped += branch != 0;
      const double h = 1e-6;
      const double da = (f.value(a + h, b, v, upstream) - f.value(a - h, b, v, upstream)) / (2 * h),
                   db = (f.value(a, b + h, v, upstream) - f.value(a, b - h, v, upstream)) / (2 * h);
      // f32 sums of `group` terms of order 0.1 with codes up to 15.
      EXPECT_NEAR(p.min_scale.grad().flatten()[i].item<double>(), da, 1e-4);
      EXPECT_NEAR(p.max_scale.grad().flatten()[i].item<double>(), db, 1e-4);
      for (std::size_t j = 0; j < v.size(); j += 7) {
        std::vector<double> up = v, down = v;
        up[j] += h;
        down[j] -= h;
        const double dv = (f.value(a, b, up, upstream) - f.value(a, b, down, upstream)) / (2 * h);
        EXPECT_NEAR(p.value.grad().flatten()[i * group + static_cast<std::int64_t>(j)].item<double>(), dv,
                    1e-5);
      }
    }
    EXPECT_GT(clamped, 0);  // both branches were seen
  }
}

TEST_F(SignRound, NoGradientFlowsThroughAScaleAtItsFloor) {
  Options o = exact();
  o.scale_floor = 1;
  for (const quant::AffineSpec& spec : {kSpecs[1], kSpecs[4]}) {
    const at::Tensor w = at::randn({4, 32}) * 0.01;
    Parameters p = random_parameters(w, {spec.bits, 32, spec.grid});
    p.value.zero_();  // every code is the zero point: nothing is clamped, which would move low through z
    for (at::Tensor* t : {&p.value, &p.min_scale, &p.max_scale}) t->requires_grad_(true);
    fake_quant(w, p, {spec.bits, 32, spec.grid}, o).backward(at::ones_like(w));
    EXPECT_EQ(p.max_scale.grad().abs().max().item<double>(), 0);
    EXPECT_EQ(p.min_scale.grad().abs().max().item<double>(), 0);
  }
}

TEST_F(SignRound, EqualSidesShareTheGradient) {
  at::Tensor w = at::randn({1, 32}).clamp(-0.5, 0.5);
  w[0][0] = 1;
  w[0][1] = -1;
  Parameters p{at::zeros_like(w), at::ones({1, 1}).requires_grad_(true),
               at::ones({1, 1}).requires_grad_(true)};
  fake_quant(w, p, {4, 32, Grid::kSignedSym}, exact()).backward(at::randn({1, 32}));
  EXPECT_NE(p.min_scale.grad().item<double>(), 0);
  EXPECT_FLOAT_EQ(p.min_scale.grad().item<float>(), p.max_scale.grad().item<float>());
}

TEST_F(SignRound, CodesSayWhatTrainingSaw) {
  at::Tensor w = at::randn({6, 64}) * 0.1;
  w[0].zero_();
  w[1].abs_();
  w[2].abs_().neg_();
  for (const quant::AffineSpec& spec : kSpecs) {
    for (const bool f16 : {false, true}) {
      SCOPED_TRACE(name_of(spec));
      Options o = exact();
      o.scale_f16 = f16;
      if (f16) o.scale_floor = quant::kMinStoredScale;
      const Parameters p = random_parameters(w, spec);
      const auto q = quantize(w, p, spec, o);
      EXPECT_TRUE((dequantized(q) == fake_quant(w, p, spec, o)).all().item<bool>());
      const int half = 1 << (spec.bits - 1);
      for (std::size_t i = 0; i < q.scales.size(); ++i) {
        EXPECT_GT(q.scales[i], 0);
        EXPECT_TRUE(!f16 || q.scales[i] == round_to_f16(q.scales[i]));
        EXPECT_TRUE(spec.grid == Grid::kAsym || q.zero_points[i] == half || q.zero_points[i] == half - 1);
      }
    }
  }
}

TEST_F(SignRound, TrainingALinearBeatsRoundToNearest) {
  const at::Tensor x = at::mm(at::randn({200, 64}), at::randn({64, 64})), w = at::randn({24, 64}) * 0.1;
  const at::Tensor y = at::mm(x, w.t());
  for (const quant::AffineSpec& spec : kSpecs) {
    SCOPED_TRACE(name_of(spec));
    Options o;
    o.iterations = 60;
    const LinearResult r = train_linear(w, x, y, spec, o, kCompute);
    ASSERT_EQ(r.losses.size(), 60u);
    const double best = r.losses[static_cast<std::size_t>(r.best_iteration)];
    EXPECT_LT(best, 0.95 * r.losses[0]);
    for (const double loss : r.losses) EXPECT_GE(loss, best);
    EXPECT_NEAR(test::output_mse(x, dequantized(r.linear), w) / best, 1,
                1e-4);  // the kept ones made the codes
    EXPECT_LE(r.best.value.abs().max().item<double>(), 0.51);
    EXPECT_LE(r.best.max_scale.max().item<double>(), 1);

    o.tune_ranges = false;
    const LinearResult offsets_only = train_linear(w, x, y, spec, o, kCompute);
    EXPECT_TRUE(at::equal(offsets_only.best.min_scale, at::ones_like(r.best.min_scale)));
    EXPECT_LT(offsets_only.losses[static_cast<std::size_t>(offsets_only.best_iteration)], r.losses[0]);
  }
}

TEST_F(SignRound, RefusesBadInput) {
  at::Tensor w = at::randn({4, 64}), x = at::randn({10, 64}), y = at::mm(x, w.t());
  const auto train = [&](const quant::AffineSpec& spec, const Options& o) {
    train_linear(w, x, y, spec, o, kCompute);
  };
  Options none;
  none.iterations = 0;
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.signround", "0 iterations"},
                     [&] { train(kSpecs[0], none); });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.signround", "group_size 40", "64 inputs"}, [&] {
    train({4, 40, Grid::kAsym}, {});
  });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.signround", "targets", "[M, 4]"},
                     [&] { train_linear(w, x, x, kSpecs[0], {}, kCompute); });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.signround", "9 rows for 10"},
                     [&] { train_linear(w, x, y.narrow(0, 0, 9), kSpecs[0], {}, kCompute); });
  test::expect_error(ErrorKind::kNumerics, {"methods.signround", "loss of iteration 0"},
                     [&] { train_linear(w, x * 1e30, y * 1e30, kSpecs[0], {}, kCompute); });
  test::expect_error(ErrorKind::kNumerics, {"methods.signround", "weight", "[1, 2]"}, [&] {
    w[1][2] = std::numeric_limits<double>::quiet_NaN();
    train(kSpecs[0], {});
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// A block

constexpr std::int64_t kWindows = 6, kTokens = 11;

struct TinyBlock {
  model::ModelConfig config;
  nn::DecoderBlock block;
  nn::RopeTable rope;
  calib::ActivationStore inputs{kWindows, kTokens, 64, {}}, targets{kWindows, kTokens, 64, {}};

  static model::ModelConfig make_config() {
    model::ModelConfig c;
    c.hidden_size = 64;
    c.intermediate_size = 96;
    c.num_attention_heads = 4;
    c.num_key_value_heads = 2;
    c.head_dim = 16;
    return c;
  }

  TinyBlock() : config(make_config()), block(config), rope(nn::make_rope_table(config, 16, at::kCPU)) {
    at::manual_seed(9);
    for (auto& [name, norm] : block.norms()) *norm = at::rand({64}) + 0.5;
    for (const model::LinearRole role : model::kLinearRoles) {
      nn::QuantLinear& linear = block.linear(role);
      const model::LinearShape shape = model::linear_shape(config, role);
      linear.n = shape.n;
      linear.k = shape.k;
      linear.weight = at::randn({shape.n, shape.k}) * 0.2;
      if (role == model::LinearRole::kV) linear.bias = at::randn({shape.n}) * 0.1;
    }
    const at::Tensor x = at::randn({kWindows, kTokens, 64});
    targets.write(0, block.forward(x, rope, kCompute));
    inputs.write(0, x + at::randn_like(x) * 0.01);  // the quantized prefix has its own error
  }

  double loss_of(const std::array<quant::QuantizedLinear, 7>& linears) const {
    nn::DecoderBlock copy = block;
    for (const model::LinearRole role : model::kLinearRoles)
      copy.linear(role).set_dequantized(linears[static_cast<std::size_t>(role)], at::kCPU);
    const at::Tensor y = copy.forward(inputs.read(0, kWindows), rope, kCompute);
    return (y - targets.read(0, kWindows)).square().mean().item<double>();
  }
};

TEST(SignRoundBlock, LowersTheErrorOfTheBlockAndLeavesItsWeights) {
  for (const Grid grid : {Grid::kAsym, Grid::kSignedSym}) {
    TinyBlock tiny;
    std::vector<at::Tensor> before;
    for (const model::LinearRole role : model::kLinearRoles)
      before.push_back(tiny.block.linear(role).weight.clone());
    BlockOptions o;
    o.rounding.iterations = 60;
    o.batch = kWindows;
    std::int64_t calls = 0;
    const BlockResult r = train_block(tiny.block, {tiny.inputs, tiny.targets}, tiny.rope, {3, 32, grid}, o,
                                      kCompute, at::kCPU, [&](std::int64_t k, const BlockStep& step) {
                                        EXPECT_EQ(k, calls++);
                                        EXPECT_NEAR(step.lr, (1 - k / 60.0) / 60, 1e-7);
                                      });
    EXPECT_TRUE(r.finite);
    ASSERT_EQ(r.steps.size(), 60u);
    EXPECT_EQ(calls, 60);
    const double best = r.steps[static_cast<std::size_t>(r.best_iteration)].loss;
    EXPECT_LT(best, 0.7 * r.steps[0].loss);
    EXPECT_NEAR(tiny.loss_of(r.linears) / best, 1, 1e-4);  // every batch was all windows
    for (std::size_t i = 0; i < before.size(); ++i) {
      const nn::QuantLinear& linear = tiny.block.linear(model::kLinearRoles[i]);
      EXPECT_TRUE(at::equal(linear.weight, before[i]));
      EXPECT_FALSE(linear.weight.requires_grad());
      EXPECT_EQ(linear.state, nn::QuantLinear::State::kFloat);
      quant::check_quantized_linear(r.linears[i], "linear");
    }
  }
}

TEST(SignRoundBlock, TheFirstLossIsThatOfRoundToNearestAndBatchesAreShuffled) {
  TinyBlock tiny;
  const quant::AffineSpec spec{4, 32, Grid::kAsym};
  BlockOptions o;
  o.rounding.iterations = 6;
  o.rounding.lr = o.rounding.range_lr = 1e-9;  // nothing moves: each loss is that of its windows
  o.batch = 1;
  const auto run = [&] {
    std::vector<double> losses;
    for (const BlockStep& step :
         train_block(tiny.block, {tiny.inputs, tiny.targets}, tiny.rope, spec, o, kCompute, at::kCPU, {})
             .steps)
      losses.push_back(step.loss);
    return losses;
  };
  const std::vector<double> first = run(), again = run();
  EXPECT_EQ(first, again);
  o.seed = 43;
  std::vector<double> other = run();
  EXPECT_NE(first, other);  // another order
  std::vector<double> sorted = first;
  std::sort(sorted.begin(), sorted.end());
  std::sort(other.begin(), other.end());
  EXPECT_EQ(sorted, other);  // of the same windows, each once
  EXPECT_LT(sorted[0], sorted[5]);
  double mean = 0;
  for (const double loss : first) mean += loss / 6;
  std::array<quant::QuantizedLinear, 7> nearest;
  for (std::size_t i = 0; i < 7; ++i) {
    const at::Tensor w = tiny.block.linear(model::kLinearRoles[i]).weight;
    const at::Tensor ones = at::ones({w.size(0), w.size(1) / 32});
    nearest[i] = quantize(w, {at::zeros_like(w), ones, ones}, spec, {});
  }
  EXPECT_NEAR(tiny.loss_of(nearest) / mean, 1, 1e-5);
}

TEST(SignRoundBlock, StopsAtALossThatIsNotFinite) {
  TinyBlock tiny;
  at::Tensor broken = tiny.targets.read(0, kWindows).clone();
  broken[4][2][1] = std::numeric_limits<double>::infinity();
  tiny.targets.write(0, broken);
  BlockOptions o;
  o.rounding.iterations = 20;
  o.batch = 2;
  const BlockResult r = train_block(tiny.block, {tiny.inputs, tiny.targets}, tiny.rope, {4, 32, Grid::kAsym},
                                    o, kCompute, at::kCPU, {});
  EXPECT_FALSE(r.finite);
  EXPECT_LT(r.steps.size(), 3u);
  EXPECT_TRUE(r.linears[0].codes.empty());
  EXPECT_FALSE(tiny.block.linear(model::LinearRole::kQ).weight.requires_grad());
}

TEST(SignRoundBlock, PutsTheWeightsBackWhenItIsStopped) {
  TinyBlock tiny;
  const at::Tensor before = tiny.block.linear(model::LinearRole::kDown).weight.clone();
  BlockOptions o;
  o.batch = 2;
  EXPECT_THROW(
      train_block(tiny.block, {tiny.inputs, tiny.targets}, tiny.rope, {4, 32, Grid::kAsym}, o, kCompute,
                  at::kCPU, [](std::int64_t, const BlockStep&) { throw std::runtime_error("stop"); }),
      std::runtime_error);
  EXPECT_TRUE(at::equal(tiny.block.linear(model::LinearRole::kDown).weight, before));
  o.batch = kWindows + 1;
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.signround", "batch 7", "1 to 6"}, [&] {
    train_block(tiny.block, {tiny.inputs, tiny.targets}, tiny.rope, {4, 32, Grid::kAsym}, o, kCompute,
                at::kCPU, {});
  });
}

TEST(SignRoundRanges, ASearchedStartIsNeverWorseAndWeighsErrors) {
  at::manual_seed(6);
  const at::Tensor tails = at::randn({16, 128}).pow(3);
  std::vector<float> energy(128);
  for (std::size_t i = 0; i < energy.size(); ++i) energy[i] = i % 7 == 0 ? 50.0f : 1.0f;
  const at::Tensor weights = at::tensor(at::ArrayRef<float>(energy));
  for (const quant::Grid grid : {quant::Grid::kAsym, quant::Grid::kSignedSym}) {
    for (const int bits : {2, 3, 4}) {
      const quant::AffineSpec spec{bits, 32, grid};
      const Options options;
      const auto error = [&](const Parameters& p, const at::Tensor& by) {
        return ((fake_quant(tails, p, spec, options) - tails).square() * by).sum().item<double>();
      };
      const at::Tensor ones = at::ones({16, 4});
      const Parameters plain{at::zeros_like(tails), ones, ones},
          searched = search_ranges(tails, spec, options, {}),
          weighted = search_ranges(tails, spec, options, energy);
      EXPECT_LT(error(searched, at::ones({128})), (bits == 2 ? 0.9 : 1.0) * error(plain, at::ones({128})))
          << quant::scheme_name(spec);
      EXPECT_LT(error(weighted, weights), error(searched, weights)) << quant::scheme_name(spec);
      EXPECT_TRUE(searched.min_scale.requires_grad() && searched.max_scale.requires_grad());
      EXPECT_LE(searched.max_scale.max().item<float>(), 1);
    }
  }
}

}  // namespace
}  // namespace crumb::methods::signround
