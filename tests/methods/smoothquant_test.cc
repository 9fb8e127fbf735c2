#include "methods/smoothquant/smoothquant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/half.h"
#include "methods/baseline_golden.h"
#include "support/expect_error.h"

namespace crumb::methods::smoothquant {
namespace {

class SmoothQuant : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(3); }
};

at::Tensor absmax(const at::Tensor& x) {
  return x.abs().amax(at::IntArrayRef{0});
}

// Three channels with outliers.
at::Tensor inputs(std::int64_t tokens = 60) {
  at::Tensor x = at::randn({tokens, 48});
  for (const std::int64_t c : {3, 20, 41}) x.select(1, c).mul_(60);
  return x;
}

TEST_F(SmoothQuant, KeepsTheFunction) {
  const at::Tensor x = inputs(), w = at::randn({32, 48}), v = at::randn({8, 48});
  const at::Tensor s = smoothing_scales(absmax(x), weight_absmax({w, v}), 0.5);
  for (const at::Tensor& weight : {w, v}) {
    const at::Tensor y = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t()),
                     smoothed = at::mm((x / s).to(at::kDouble), (weight * s).to(at::kDouble).t());
    EXPECT_LT((smoothed - y).norm().item<double>(), 1e-6 * y.norm().item<double>());
  }
}

TEST_F(SmoothQuant, HalfBalancesBothSides) {
  const at::Tensor x = inputs(), w = at::randn({32, 48}), v = at::randn({8, 48});
  const at::Tensor s = smoothing_scales(absmax(x), weight_absmax({w, v}), 0.5);
  EXPECT_LT(test::relative_difference(absmax(x / s), weight_absmax({w * s, v * s})), 1e-5);
  EXPECT_TRUE(at::allclose(smoothing_scales(absmax(x), absmax(w), 1), absmax(x)));  // all into the weights
  EXPECT_TRUE(
      at::allclose(smoothing_scales(absmax(x), absmax(w), 0), 1 / absmax(w)));  // all into the activations
}

TEST_F(SmoothQuant, DeadChannelsGetAFiniteScale) {
  at::Tensor x = absmax(inputs()), w = absmax(at::randn({8, 48}));
  x[4] = 0;
  w[4] = 0;
  x[5] = 0;
  w[6] = 0;
  const at::Tensor s = smoothing_scales(x, w, 0.5);
  EXPECT_TRUE(at::isfinite(s).all().item<bool>());
  EXPECT_GE(s.min().item<double>(), 1e-5f);
  EXPECT_FLOAT_EQ(s[4].item<float>(), 1);  // 1e-5^0.5 / 1e-5^0.5
}

TEST_F(SmoothQuant, LowersTheErrorOfEightBitProducts) {
  const at::Tensor x = inputs(), w = at::randn({32, 48});
  const at::Tensor exact = at::mm(x, w.t()), s = smoothing_scales(absmax(x), absmax(w), 0.5);
  const auto error = [&](const at::Tensor& scales) {
    return (w8a8_product(quantize_tokens(x / scales), quantize_weight(w * scales, true)) - exact)
        .norm()
        .item<double>();
  };
  EXPECT_LT(error(s), 0.5 * error(at::ones({48})));
}

TEST_F(SmoothQuant, TheProductIsThatOfIntegers) {
  const at::Tensor x = inputs(9), w = at::randn({7, 48});
  const auto tokens = quantize_tokens(x);
  for (const bool f16 : {false, true}) {
    const auto q = quantize_weight(w, f16);
    const at::Tensor y = w8a8_product(tokens, q);
    for (std::int64_t m = 0; m < 9; ++m) {
      for (std::int64_t n = 0; n < 7; ++n) {
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < 48; ++k)
          sum +=
              tokens.codes[m][k].item<std::int32_t>() * (q.codes[static_cast<std::size_t>(n * 48 + k)] - 128);
        const float expected =
            static_cast<float>(sum) * tokens.scales[m].item<float>() * q.scales[static_cast<std::size_t>(n)];
        EXPECT_EQ(y[m][n].item<float>(), expected);
      }
    }
  }
}

TEST_F(SmoothQuant, CodesAreSymmetricAndOffByHalfAStepAtMost) {
  at::Tensor w = at::randn({200, 48}) * 1e-3;
  w[3].zero_();
  for (const bool f16 : {false, true}) {
    const auto q = quantize_weight(w, f16);
    quant::check_quantized_linear(q, "w");
    for (const std::uint8_t code : q.codes) EXPECT_TRUE(code >= 1) << "code -128";
    for (const float s : q.scales) {
      EXPECT_TRUE(!f16 || s == round_to_f16(s));
    }
    const at::Tensor steps = test::scales_of(q);
    const at::Tensor error = (test::dequantized(q) - w).abs() / steps;
    EXPECT_LE(error.max().item<double>(),
              0.5 + 1e-5);  // the largest weight too, whichever way its step was rounded
    EXPECT_EQ(test::dequantized(q)[3].abs().max().item<double>(), 0);
  }
  const auto tokens = quantize_tokens(w);
  EXPECT_GE(tokens.codes.min().item<int>(), -127);
  EXPECT_EQ(tokens.codes.abs().amax(1)[0].item<int>(), 127);
}

TEST_F(SmoothQuant, RefusesBadInput) {
  const at::Tensor ones = at::ones({48});
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.smoothquant", "alpha 1.5"},
                     [&] { smoothing_scales(ones, ones, 1.5); });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.smoothquant", "[7]", "[48]"},
                     [&] { smoothing_scales(ones, at::ones({7}), 0.5); });
  test::expect_error(ErrorKind::kNumerics, {"methods.smoothquant", "largest |x|", "-1"},
                     [&] { smoothing_scales(-ones, ones, 0.5); });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.smoothquant", "none"},
                     [&] { weight_absmax({}); });
  test::expect_error(ErrorKind::kNumerics, {"methods.smoothquant", "[0, 1]"}, [&] {
    at::Tensor w = at::ones({2, 3});
    w[0][1] = std::numeric_limits<double>::infinity();
    quantize_weight(w, true);
  });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.smoothquant", "w4g16", "48"}, [&] {
    quant::QuantizedLinear four{8, 48, {4, 16, quant::Grid::kAsym}, {}, {}, {}};
    w8a8_product(quantize_tokens(at::ones({2, 48})), four);
  });
}

}  // namespace
}  // namespace crumb::methods::smoothquant
