// AWQ's searches against autoawq on one linear.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/awq/awq.h"
#include "methods/baseline_golden.h"
#include "methods/gram.h"

namespace crumb::methods::awq {
namespace {

using namespace crumb::test;

TEST(AwqGolden, SearchesEqualThePackage) {
  CRUMB_OPEN_BASELINE(golden, "awq");
  const at::Tensor &w = golden.weight, &x = golden.x;
  Gram gram(x.size(1));
  gram.add(x);
  const auto cases = golden.cases(".codes", "nozp");
  EXPECT_FALSE(cases.empty());
  for (const BaselineCase& c : cases) {
    SCOPED_TRACE(c.name);
    const auto get = [&](const char* name) { return tensor(golden.file, c.name + "." + name); };
    const at::Tensor x_mean = x.abs().mean(at::IntArrayRef{0});
    EXPECT_LT(relative_difference(x_mean, get("x_mean")), 1e-6);
    EXPECT_LT(relative_difference(weight_mean({w}, c.spec), get("w_mean")), 1e-6);

    // Two halves of the rows are two consumers of one site.
    const std::int64_t half = w.size(0) / 2;
    const ScaleSearchResult found =
        search_scales({w.narrow(0, 0, half), w.narrow(0, half, half)}, x_mean, gram.sum(), x.size(0), c.spec,
                      {.duo = !c.has("noduo"), .scale_f16 = false});
    const auto losses = golden.file.read_f32(c.name + ".losses");
    EXPECT_EQ(found.losses.size(), losses.size());
    double worst = 0;
    for (std::size_t i = 0; i < losses.size(); ++i)
      worst = std::max(worst, std::abs(found.losses[i] / losses[i] - 1));
    EXPECT_LT(worst, 1e-5);
    EXPECT_NEAR(found.ratio, scalar(golden.file, c.name + ".best_ratio"), 1e-6);
    const double scales = relative_difference(found.scales, get("best_scales"));
    EXPECT_LT(scales, 1e-6);

    // From here on with the package's scales: one rounding of a scale moves a code at a tie.
    const at::Tensor s = get("best_scales"), scaled = w * s;
    const auto q = round_to_nearest(scaled, {}, c.spec, false);
    const bool symmetric = c.spec.grid == quant::Grid::kSignedSym;
    const int offset = symmetric ? 1 << (c.spec.bits - 1) : 0;  // the package's symmetric codes are signed
    const at::Tensor golden_codes = (get("codes") + offset).to(at::kInt);
    const std::int64_t differ = differing(codes_of(q), golden_codes);
    EXPECT_EQ(differ, 0);
    EXPECT_LT(relative_difference(scales_of(q), get("scale")), 1e-6);
    if (!symmetric) {
      EXPECT_EQ(differing(zeros_of(q), get("zero")), 0);
    }
    const double mse = output_mse(x, dequantized(q) / s, w) / scalar(golden.file, c.name + ".out_mse") - 1;
    EXPECT_NEAR(mse, 0, 1e-5);

    const at::Tensor clip = search_clip(scaled, gram_of_divided(gram.sum(), s), c.spec, {.scale_f16 = false});
    const at::Tensor golden_clip = get("clip_max").squeeze(-1);
    const auto other = ((clip - golden_clip).abs() > 1e-6 * golden_clip).sum().item<std::int64_t>();
    const auto clipped = round_to_nearest(scaled, clip, c.spec, false);
    const double clipped_mse =
        output_mse(x, dequantized(clipped) / s, w) / scalar(golden.file, c.name + ".out_mse_clipped") - 1;
    EXPECT_EQ(other, 0);
    EXPECT_NEAR(clipped_mse, 0, 1e-5);
  }
}

}  // namespace
}  // namespace crumb::methods::awq
