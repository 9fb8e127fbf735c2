#include "methods/awq/awq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/half.h"
#include "methods/baseline_golden.h"
#include "methods/gram.h"
#include "quant/affine.h"
#include "support/expect_error.h"

namespace crumb::methods::awq {
namespace {

using quant::Grid;
using test::dequantized, test::scales_of;

const std::vector<quant::AffineSpec> kSpecs = {{2, 32, Grid::kAsym},
                                               {4, 32, Grid::kAsym},
                                               {3, -1, Grid::kAsym},
                                               {2, 32, Grid::kSignedSym},
                                               {4, -1, Grid::kSignedSym}};

// A site whose channels differ much in size.
struct Site {
  at::Tensor x = at::randn({300, 96}) * at::linspace(-2, 2, 96).exp().index_select(0, at::randperm(96));
  at::Tensor w = at::randn({40, 96}) * 0.1, v = at::randn({24, 96}) * 0.1;
  at::Tensor mean = x.abs().mean(at::IntArrayRef{0}), gram;
  Site() {
    Gram sums(96);
    sums.add(x);
    gram = sums.sum().clone();
  }
};

class AwqSearch : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(11); }
};

TEST_F(AwqSearch, TheGramFormIsTheOutputsError) {
  const Site site;
  for (const quant::AffineSpec& spec : kSpecs) {
    for (const bool duo : {true, false}) {
      const auto found = search_scales({site.w, site.v}, site.mean, site.gram, 300, spec, {.duo = duo});
      const at::Tensor both = at::cat({site.w, site.v});
      const at::Tensor w_hat =
          dequantized(round_to_nearest(both * found.scales, {}, spec, true)) / found.scales;
      EXPECT_NEAR(test::output_mse(site.x, w_hat, both) / found.losses[static_cast<std::size_t>(found.best)],
                  1, 1e-5);
      // f32 products of the same sums.
      const auto in_f32 =
          search_scales({site.w, site.v}, site.mean, site.gram.to(at::kFloat), 300, spec, {.duo = duo});
      EXPECT_EQ(in_f32.best, found.best);
      EXPECT_NEAR(in_f32.losses[3] / found.losses[3], 1, 1e-5);
      // The least of all, hence not above ratio 0.
      for (const double loss : found.losses)
        EXPECT_LE(found.losses[static_cast<std::size_t>(found.best)], loss);
      EXPECT_LT(found.losses[static_cast<std::size_t>(found.best)], found.losses[0]);
    }
  }
}

TEST_F(AwqSearch, RatioZeroWithoutWeightsIsRoundToNearest) {
  const Site site;
  const auto found = search_scales({site.w}, site.mean, site.gram, 300, kSpecs[1], {.duo = false});
  const at::Tensor w_hat = dequantized(round_to_nearest(site.w, {}, kSpecs[1], true));
  EXPECT_NEAR(found.losses[0] / test::output_mse(site.x, w_hat, site.w), 1, 1e-5);
  EXPECT_GT(found.ratio, 0);
  EXPECT_NEAR((found.scales.max() * found.scales.min()).item<double>(), 1, 1e-5);
}

TEST_F(AwqSearch, ConsumersShareTheirScaleAndAddTheirErrors) {
  const Site site;
  const ScaleSearch search{.duo = false};
  const auto both = search_scales({site.w, site.v}, site.mean, site.gram, 300, kSpecs[0], search),
             one = search_scales({site.w}, site.mean, site.gram, 300, kSpecs[0], search),
             other = search_scales({site.v}, site.mean, site.gram, 300, kSpecs[0], search);
  for (std::size_t i = 0; i < both.losses.size(); ++i)
    EXPECT_NEAR(both.losses[i] / ((40 * one.losses[i] + 24 * other.losses[i]) / 64), 1, 1e-6);
}

TEST_F(AwqSearch, ClippingLowersTheErrorOfEveryGroup) {
  const Site site;
  for (const quant::AffineSpec& spec : kSpecs) {
    const at::Tensor clip = search_clip(site.w, site.gram, spec, {});
    const at::Tensor largest = site.w.abs().view({40, spec.groups(96), -1}).amax(-1);
    EXPECT_TRUE((clip <= largest).all().item<bool>());
    EXPECT_TRUE((clip >= largest * 0.549f).all().item<bool>());
    EXPECT_TRUE((clip < largest).any().item<bool>());
    const at::Tensor plain = dequantized(round_to_nearest(site.w, {}, spec, true)) - site.w,
                     clipped = dequantized(round_to_nearest(site.w, clip, spec, true)) - site.w;
    const std::int64_t group = spec.group_of(96);
    for (std::int64_t j = 0; j < spec.groups(96); ++j) {
      for (std::int64_t row = 0; row < 40; ++row) {
        const auto error = [&](const at::Tensor& d) {
          return quadratic_error(d.narrow(0, row, 1).narrow(1, j * group, group),
                                 site.gram.narrow(0, j * group, group).narrow(1, j * group, group));
        };
        EXPECT_LE(error(clipped), error(plain) * (1 + 1e-9));
      }
    }
  }
}

TEST_F(AwqSearch, GroupsOfOneSignAreKept) {
  at::Tensor w = at::full({1, 32}, 0.3f);
  for (const quant::AffineSpec& spec : {quant::AffineSpec{4, 32, Grid::kAsym}, {4, 32, Grid::kSignedSym}}) {
    for (const double sign : {1.0, -1.0}) {
      const at::Tensor w_hat = dequantized(round_to_nearest(w * sign, {}, spec, false));
      EXPECT_LT((w_hat - w * sign).abs().max().item<double>(), 1e-6);
    }
  }
  EXPECT_EQ(dequantized(round_to_nearest(at::zeros({1, 32}), {}, kSpecs[0], true)).abs().max().item<double>(),
            0);
}

TEST_F(AwqSearch, RoundingGoesThroughTheScalarTruth) {
  const Site site;
  const quant::AffineSpec spec{4, 32, Grid::kAsym};
  const auto q = round_to_nearest(site.w, {}, spec, true);
  std::vector<float> zeros(q.zero_points.begin(), q.zero_points.end());
  std::vector<std::uint8_t> codes(q.codes.size());
  quant::quantize({site.w.const_data_ptr<float>(), codes.size()}, q.scales, zeros, 40, 96, spec, codes);
  EXPECT_EQ(q.codes, codes);
  for (const float s : q.scales) EXPECT_EQ(s, round_to_f16(s));
}

TEST_F(AwqSearch, RefusesBadInput) {
  Site site;
  const auto search = [&](const std::vector<at::Tensor>& weights, const at::Tensor& mean,
                          const at::Tensor& gram) { search_scales(weights, mean, gram, 300, kSpecs[0], {}); };
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.awq", "none"},
                     [&] { search({}, site.mean, site.gram); });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.awq", "64 and 96"}, [&] {
    search({site.w, at::zeros({3, 64})}, site.mean, site.gram);
  });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.awq", "mean |x|", "[96]"},
                     [&] { search({site.w}, site.mean.narrow(0, 0, 5), site.gram); });
  test::expect_error(ErrorKind::kNumerics, {"methods.awq", "mean |x|", "-"},
                     [&] { search({site.w}, -site.mean, site.gram); });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.awq", "group_size 40"}, [&] {
    search_clip(site.w, site.gram, {4, 40, Grid::kAsym}, {});
  });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.awq", "max_shrink 1"},
                     [&] { search_clip(site.w, site.gram, kSpecs[0], {.max_shrink = 1}); });
  test::expect_error(ErrorKind::kNumerics, {"methods.awq", "Gram", "not finite"}, [&] {
    at::Tensor bad = site.gram.clone();
    bad[0][0] = std::numeric_limits<double>::infinity();
    search({site.w}, site.mean, bad);
  });
  test::expect_error(ErrorKind::kNumerics, {"methods.awq", "loss of ratio 0"}, [&] {
    at::Tensor bad = site.gram.clone();
    bad[0][1] = std::numeric_limits<double>::infinity();
    search({site.w}, site.mean, bad);
  });
  test::expect_error(ErrorKind::kNumerics, {"methods.awq", "weight", "[1, 2]"}, [&] {
    site.w[1][2] = std::numeric_limits<double>::quiet_NaN();
    round_to_nearest(site.w, {}, kSpecs[0], true);
  });
}

}  // namespace
}  // namespace crumb::methods::awq
