#include "methods/gptq/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/half.h"
#include "base/str.h"
#include "methods/baseline_golden.h"
#include "methods/gram.h"
#include "quant/affine.h"
#include "support/expect_error.h"

namespace crumb::methods::gptq {
namespace {

using quant::Grid;
using test::codes_of, test::dequantized, test::scales_of, test::zeros_of;

const std::vector<quant::AffineSpec> kSpecs = {{2, 32, Grid::kAsym},
                                               {4, 32, Grid::kAsym},
                                               {3, -1, Grid::kAsym},
                                               {2, 32, Grid::kSignedSym},
                                               {4, -1, Grid::kSignedSym}};

// Options without any reordering: groups of neighbors, scales when the group starts.
Options plain(const quant::AffineSpec& spec) {
  Options o;
  o.spec = spec;
  o.act_order = o.static_groups = false;
  return o;
}

// 2 X^T X of inputs whose channels lean on each other and differ in size.
at::Tensor hessian_of(std::int64_t k, std::int64_t tokens = 400) {
  const at::Tensor x =
      at::mm(at::randn({tokens, k}), at::randn({k, k}) / std::sqrt(static_cast<double>(k)) + at::eye(k)) *
      at::linspace(0.2, 2, k).index_select(0, at::randperm(k));
  Gram gram(k);
  gram.add(x);
  return gram.hessian();
}

// Every group by find_group_scale() and quantize_one(), each weight for itself.
quant::QuantizedLinear nearest(const at::Tensor& w, const Options& o, const at::Tensor& energy) {
  const std::int64_t n = w.size(0), k = w.size(1), group = o.spec.group_of(k);
  quant::QuantizedLinear q{n, k, o.spec, {}, {}, {}};
  const at::Tensor e = energy.to(at::kFloat).contiguous();
  for (std::int64_t i = 0; i < n * k / group; ++i) {
    const std::span<const float> weights{w.const_data_ptr<float>() + i * group,
                                         static_cast<std::size_t>(group)};
    const std::span<const float> energies{e.const_data_ptr<float>() + i * group % k, weights.size()};
    const GroupScale s = find_group_scale(weights, energies, o.spec, o.range, o.scale_f16, o.parity);
    for (const float value : weights)
      q.codes.push_back(
          static_cast<std::uint8_t>(quant::quantize_one(value, s.scale, s.zero_point, o.spec.max_code())));
    q.scales.push_back(s.scale);
    q.zero_points.push_back(static_cast<std::uint8_t>(s.zero_point));
  }
  return q;
}

class GptqSolver : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(7); }
};

TEST_F(GptqSolver, WithTheIdentityIsRoundToNearest) {
  const at::Tensor w = at::randn({24, 192}) * 0.1, identity = at::eye(192, at::kDouble);
  for (const quant::AffineSpec& spec : kSpecs) {
    for (const RangeRule rule : {RangeRule::kMinMax, RangeRule::kErrorSearch, RangeRule::kClipSearch}) {
      for (const bool statics : {false, true}) {
        SCOPED_TRACE(cat(quant::scheme_name(spec), " ", quant::to_string(spec.grid), " rule ",
                         static_cast<int>(rule)));
        Options o = plain(spec);
        o.range.rule = rule;
        o.static_groups = o.act_order = statics;
        const Result r = quantize(w, identity, o);
        const auto expected = nearest(w, o, identity.diagonal());
        EXPECT_EQ(r.linear.codes, expected.codes);
        EXPECT_EQ(r.linear.scales, expected.scales);
        EXPECT_EQ(r.linear.zero_points, expected.zero_points);
        EXPECT_TRUE(r.g_idx.empty());
      }
    }
  }
}

TEST_F(GptqSolver, LowersTheErrorOfRoundToNearest) {
  for (const quant::AffineSpec& spec : kSpecs) {
    for (int seed = 0; seed < 5; ++seed) {
      const at::Tensor w = at::randn({32, 160}) * 0.1, h = hessian_of(160);
      for (const bool act_order : {false, true}) {
        Options o;
        o.spec = spec;
        o.act_order = act_order;  // static groups: the same scales as round-to-nearest
        const Result r = quantize(w, h, o);
        const double ours = quadratic_error(dequantized(r.linear) - w, h),
                     rtn = quadratic_error(dequantized(nearest(w, o, h.diagonal())) - w, h);
        EXPECT_LT(ours, rtn) << quant::scheme_name(spec) << " act_order " << act_order;
        const at::Tensor damped = h + at::eye(160, at::kDouble) * (0.01 * h.diagonal().mean().item<double>());
        EXPECT_NEAR(r.error / quadratic_error(dequantized(r.linear) - w, damped), 1, 1e-5);
        EXPECT_EQ(r.damping, 0.01);
      }
    }
  }
}

TEST_F(GptqSolver, BlocksOfAnySizeGiveTheSameCodes) {
  const at::Tensor w = at::randn({16, 192}) * 0.1, h = hessian_of(192);
  for (const std::int64_t group : {32, 48, 96, -1}) {  // some fit no block
    for (const bool act_order : {false, true}) {
      Options o = plain({4, group, Grid::kAsym});
      o.act_order = act_order;
      o.block_size = 1;
      const Result whole = quantize(w, h, o);
      for (const std::int64_t block : {5, 32, 40, 128, 192, 1000}) {
        o.block_size = block;
        const Result r = quantize(w, h, o);
        EXPECT_EQ(r.linear.codes, whole.linear.codes) << "group " << group << " block " << block;
        EXPECT_EQ(r.linear.scales, whole.linear.scales) << "group " << group << " block " << block;
      }
    }
  }
}

TEST_F(GptqSolver, ParityTakesScalesFromTheStartOfTheBlock) {
  const at::Tensor w = at::randn({16, 192}) * 0.1, h = hessian_of(192);
  Options o = plain({4, 32, Grid::kAsym});
  o.scale_f16 = false;
  const at::Tensor ours = scales_of(quantize(w, h, o).linear);
  o.parity = true;
  const at::Tensor package = scales_of(quantize(w, h, o).linear);
  const at::Tensor original = scales_of(nearest(w, o, h.diagonal()));
  EXPECT_TRUE(
      at::equal(package.narrow(1, 0, 4), original.narrow(1, 0, 4)));     // groups 0 ... 3: the first block
  EXPECT_FALSE(at::equal(package.select(1, 4), original.select(1, 4)));  // the second has seen updates
  EXPECT_TRUE(at::equal(ours.select(1, 0), original.select(1, 0)));
  EXPECT_FALSE(at::equal(ours.select(1, 1), original.select(1, 1)));
}

TEST_F(GptqSolver, TheOrderOfActivationsIsAPropertyOfChannelsNotOfPlaces) {
  const at::Tensor w = at::randn({16, 96}) * 0.1, h = hessian_of(96), p = at::randperm(96);
  const at::Tensor moved_w = w.index_select(1, p), moved_h = h.index_select(0, p).index_select(1, p);
  Options o;
  o.spec = {4, -1, Grid::kAsym};  // one range a row, which no permutation changes
  const Result r = quantize(w, h, o), moved = quantize(moved_w, moved_h, o);
  EXPECT_TRUE(at::equal(codes_of(r.linear).index_select(1, p), codes_of(moved.linear)));
  o.act_order = false;
  EXPECT_FALSE(at::equal(codes_of(quantize(w, h, o).linear).index_select(1, p),
                         codes_of(quantize(moved_w, moved_h, o).linear)));
}

TEST_F(GptqSolver, ScatteredGroupsAreListedAndAsLargeAsOthers) {
  const at::Tensor w = at::randn({16, 96}) * 0.1, h = hessian_of(96);
  Options o = plain({4, 32, Grid::kAsym});
  o.act_order = true;
  const Result r = quantize(w, h, o);
  ASSERT_EQ(r.g_idx.size(), 96u);
  const at::Tensor falling = h.diagonal().argsort(0, /*descending=*/true);
  for (std::int64_t i = 0; i < 96; ++i)
    EXPECT_EQ(r.g_idx[static_cast<std::size_t>(falling[i].item<std::int64_t>())], i / 32);
  const at::Tensor group = at::tensor(at::ArrayRef<std::int32_t>(r.g_idx)).to(at::kLong);
  const at::Tensor w_hat = (codes_of(r.linear) - zeros_of(r.linear).index_select(1, group)) *
                           scales_of(r.linear).index_select(1, group);
  EXPECT_LT(quadratic_error(w_hat - w, h), quadratic_error(dequantized(nearest(w, o, h.diagonal())) - w, h));
}

TEST_F(GptqSolver, ADeadChannelGetsTheWeightZero) {
  const at::Tensor w = at::randn({16, 96}) * 0.1;
  w.select(1, 40).fill_(9.0);  // would stretch its group's range
  at::Tensor h = hessian_of(96);
  h.select(0, 40).zero_();
  h.select(1, 40).zero_();
  for (const bool act_order : {false, true}) {
    Options o;
    o.spec = {4, 32, Grid::kAsym};
    o.act_order = act_order;
    const at::Tensor w_hat = dequantized(quantize(w, h, o).linear);
    EXPECT_EQ(w_hat.select(1, 40).abs().max().item<double>(), 0);
    EXPECT_LT(w_hat.abs().max().item<double>(), 1);
  }
  // No factor of H changes a code, dead channels or not.
  Options o;
  o.spec = {4, 32, Grid::kAsym};
  EXPECT_EQ(quantize(w, h * 1e-8, o).linear.codes, quantize(w, h, o).linear.codes);
  // A linear that no token reaches is all zeros.
  const auto nothing = quantize(w, at::zeros({96, 96}, at::kDouble), o);
  EXPECT_EQ(dequantized(nothing.linear).abs().max().item<double>(), 0);
}

TEST_F(GptqSolver, RaisesTheDampingOfASingularHessian) {
  const at::Tensor w = at::randn({8, 96}) * 0.1;
  at::Tensor h = hessian_of(96);
  h.select(0, 3).copy_(h.select(0, 2));
  h.select(1, 3).copy_(h.select(1, 2));  // channel 3 is channel 2: exactly singular, or worse by rounding
  h.diagonal().sub_(1e-9);
  Options o;
  o.spec = {4, 32, Grid::kAsym};
  o.damping = 0;
  const Result r = quantize(w, h, o);
  EXPECT_GT(r.damping, 0);
  EXPECT_LE(r.damping, 1);
}

TEST_F(GptqSolver, CodesFitTheStoredScale) {
  const at::Tensor w = at::randn({8, 96}) * 0.1, h = hessian_of(96);
  for (const quant::AffineSpec& spec : kSpecs) {
    Options o;
    o.spec = spec;
    const Result r = quantize(w, h, o);
    for (const float s : r.linear.scales) EXPECT_EQ(s, round_to_f16(s));
    const int half = 1 << (spec.bits - 1);
    for (const std::uint8_t z : r.linear.zero_points)
      EXPECT_TRUE(spec.grid == Grid::kAsym || z == half || z == half - 1) << int{z};
    o.scale_f16 = false;
    EXPECT_NE(quantize(w, h, o).linear.scales, r.linear.scales);
  }
}

TEST_F(GptqSolver, RangesHoldZeroAndSearchesImproveThem) {
  const std::vector<float> positive = {0.5f, 0.6f, 0.7f, 0.55f}, zeros(4, 0.0f);
  const GroupScale s = find_group_scale(positive, {}, {4, -1, Grid::kAsym}, {}, false, false);
  EXPECT_FLOAT_EQ(s.scale, 0.7f / 15);
  EXPECT_EQ(s.zero_point, 0);
  EXPECT_EQ(find_group_scale(positive, {}, {4, -1, Grid::kSignedSym}, {}, false, false).zero_point, 7);
  EXPECT_EQ(find_group_scale(positive, {}, {4, -1, Grid::kSignedSym}, {}, false, true).zero_point, 8);
  EXPECT_FLOAT_EQ(find_group_scale(zeros, {}, {4, -1, Grid::kAsym}, {}, true, false).scale,
                  round_to_f16(2.0f / 15));

  const at::Tensor w = at::randn({1, 128}) * 0.1;
  const std::span<const float> weights{w.const_data_ptr<float>(), 128};
  const auto error = [&](RangeRule rule, double norm) {
    const quant::AffineSpec spec{3, -1, Grid::kAsym};
    const GroupScale g = find_group_scale(weights, {}, spec, {.rule = rule}, false, false);
    double sum = 0;
    for (const float value : weights) {
      const auto code =
          static_cast<float>(quant::quantize_one(value, g.scale, g.zero_point, spec.max_code()));
      sum += std::pow(std::abs((code - g.zero_point) * g.scale - value), norm);
    }
    return sum;
  };
  EXPECT_LT(error(RangeRule::kErrorSearch, 2.4), error(RangeRule::kMinMax, 2.4));
  EXPECT_LT(error(RangeRule::kClipSearch, 2), error(RangeRule::kMinMax, 2));
}

TEST_F(GptqSolver, RefusesBadInput) {
  at::Tensor w = at::randn({4, 64});
  const at::Tensor h = hessian_of(64);
  Options o;
  o.spec = {4, 32, Grid::kAsym};
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.gptq", "group_size 48", "64 inputs"}, [&] {
    Options bad = o;
    bad.spec.group_size = 48;
    quantize(w, h, bad);
  });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.gptq", "[32, 32]", "[64, 64]"},
                     [&] { quantize(w, h.narrow(0, 0, 32).narrow(1, 0, 32), o); });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.gptq", "block_size 0"}, [&] {
    Options bad = o;
    bad.block_size = 0;
    quantize(w, h, bad);
  });
  test::expect_error(ErrorKind::kNumerics, {"methods.gptq", "not positive definite"}, [&] {
    at::Tensor indefinite = at::ones({64, 64}, at::kDouble) * 3;
    indefinite.diagonal().fill_(1);
    quantize(w, indefinite, o);
  });
  test::expect_error(ErrorKind::kNumerics, {"methods.gptq", "Gram", "not finite"}, [&] {
    at::Tensor bad = h.clone();
    bad[5][5] = std::numeric_limits<double>::quiet_NaN();
    quantize(w, bad, o);
  });
  test::expect_error(ErrorKind::kNumerics, {"methods.gptq", "not positive definite"}, [&] {
    at::Tensor bad = h.clone();
    bad[5][9] = bad[9][5] = std::numeric_limits<double>::quiet_NaN();
    quantize(w, bad, o);
  });
  test::expect_error(ErrorKind::kNumerics, {"methods.gptq", "weight", "[2, 7]", "not finite"}, [&] {
    w[2][7] = std::numeric_limits<double>::quiet_NaN();
    quantize(w, h, o);
  });
}

}  // namespace
}  // namespace crumb::methods::gptq
