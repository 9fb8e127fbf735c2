// SmoothQuant's scales and 8-bit codes against numbers made from the formula by another program.
#include <gtest/gtest.h>

#include "methods/baseline_golden.h"
#include "methods/smoothquant/smoothquant.h"

namespace crumb::methods::smoothquant {
namespace {

using namespace crumb::test;

TEST(SmoothQuantGolden, ScalesOfEveryAlpha) {
  CRUMB_OPEN_BASELINE(golden, "smoothquant");
  const at::Tensor x_absmax = golden.x.abs().amax(at::IntArrayRef{0}),
                   w_absmax = weight_absmax({golden.weight});
  EXPECT_TRUE(at::equal(x_absmax, tensor(golden.file, "act_absmax")));
  EXPECT_TRUE(at::equal(w_absmax, tensor(golden.file, "weight_absmax")));
  int alphas = 0;
  for (const io::TensorInfo& t : golden.file.tensors()) {
    if (!t.name.starts_with("alpha")) continue;
    ++alphas;
    const double alpha = std::stod(t.name.substr(5));
    EXPECT_LT(relative_difference(smoothing_scales(x_absmax, w_absmax, alpha), tensor(golden.file, t.name)),
              1e-6)
        << t.name;
  }
  EXPECT_GT(alphas, 0);
}

TEST(SmoothQuantGolden, EightBitCodesAndErrors) {
  CRUMB_OPEN_BASELINE(golden, "smoothquant");
  const at::Tensor &w = golden.weight, &x = golden.x;
  const at::Tensor s = smoothing_scales(x.abs().amax(at::IntArrayRef{0}), weight_absmax({w}), 0.5);
  const auto q = quantize_weight(w * s, false);
  const std::int64_t differ =
      differing(codes_of(q) - 128, tensor(golden.file, "w8a8.weight_codes").to(at::kInt));
  EXPECT_EQ(differ, 0);
  const double scales = relative_difference(scales_of(q), tensor(golden.file, "w8a8.weight_scale"));
  EXPECT_LT(scales, 1e-6);
  const at::Tensor exact = at::mm(x.to(at::kDouble), w.to(at::kDouble).t());
  const auto mse = [&](const at::Tensor& y) {
    return (y.to(at::kDouble) - exact).square().mean().item<double>();
  };
  const double smooth =
      mse(w8a8_product(quantize_tokens(x / s), q)) / scalar(golden.file, "w8a8.out_mse_smooth") - 1;
  const double plain = mse(w8a8_product(quantize_tokens(x), quantize_weight(w, false))) /
                           scalar(golden.file, "w8a8.out_mse_plain") -
                       1;
  EXPECT_NEAR(smooth, 0, 1e-5);
  EXPECT_NEAR(plain, 0, 1e-5);
}

}  // namespace
}  // namespace crumb::methods::smoothquant
