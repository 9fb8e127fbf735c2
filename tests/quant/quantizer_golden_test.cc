// The authors' quantizer: start, forward and gradients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "quant/affine.h"
#include "support/golden_file.h"

namespace crumb::quant {
namespace {

struct Case {
  std::string prefix;
  AffineSpec spec;
};

// Every "w<bits>g<group>.scale" of the file.
std::vector<Case> cases_of(const io::SafetensorsFile& file) {
  std::vector<Case> cases;
  for (const io::TensorInfo& tensor : file.tensors()) {
    int bits = 0, group = 0, end = 0;
    if (std::sscanf(tensor.name.c_str(), "w%dg%d.scale%n", &bits, &group, &end) == 2 &&
        end == static_cast<int>(tensor.name.size())) {
      cases.push_back(
          {"w" + std::to_string(bits) + "g" + std::to_string(group) + ".", {bits, group, Grid::kAsym}});
    }
  }
  return cases;
}

TEST(EfficientQatQuantizer, StartForwardAndGradientsEqualTheAuthors) {
  const auto files = test::golden_files("efficientqat", "quantizer");
  if (files.empty())
    GTEST_SKIP() << "golden/efficientqat/quantizer*.safetensors is not here (set CRUMB_SHARED)";
  for (const auto& path : files) {
    const io::SafetensorsFile file(path);
    const auto w = file.read_f32("w"), upstream = file.read_f32("upstream");
    const std::int64_t n = file.at("w").shape[0], k = file.at("w").shape[1];
    const auto scale_factor = file.read_f32("perturb_scale_factor"),
               zero_add = file.read_f32("perturb_zero_add");
    const auto cases = cases_of(file);
    ASSERT_FALSE(cases.empty()) << path;
    for (const Case& c : cases) {
      SCOPED_TRACE(path.filename().string() + " " + c.prefix);
      const std::int64_t groups = n * c.spec.groups(k);
      std::vector<float> scale(groups), zero(groups), w_hat(w.size()), dw(w.size()), ds(groups), dz(groups);
      init_minmax(w, n, k, c.spec, scale, zero);
      ASSERT_THAT(scale, testing::ElementsAreArray(file.read_f32(c.prefix + "scale")));
      ASSERT_THAT(zero, testing::ElementsAreArray(file.read_f32(c.prefix + "zero_point")));
      for (const std::string state : {"init.", "pert."}) {
        SCOPED_TRACE(state);
        if (state == "pert.") {
          for (std::int64_t i = 0; i < groups; ++i) {
            scale[i] *= scale_factor[i];
            zero[i] += zero_add[i];
          }
        }
        fake_quant(w, scale, zero, n, k, c.spec, w_hat);
        ASSERT_THAT(w_hat, testing::ElementsAreArray(file.read_f32(c.prefix + state + "wq")));
        fake_quant_backward(w, scale, zero, upstream, n, k, c.spec, dw, ds, dz);
        const auto mask = file.read_u8(c.prefix + state + "dw_mask");
        for (std::size_t i = 0; i < w.size(); ++i) ASSERT_EQ(dw[i], mask[i] ? upstream[i] : 0.0f) << i;
        const auto golden_ds = file.read_f32(c.prefix + state + "ds"),
                   golden_dz = file.read_f32(c.prefix + state + "dz");
        for (std::int64_t g = 0; g < groups; ++g) {
          // The authors' sums run in f32, ours in f64: G terms, each rounded a few times, of size |g| max(1,
          // |w/s|).
          const float s = effective_scale(scale[g]);
          double sum = 0, largest = 1;
          for (std::int64_t i = 0; i < c.spec.group_size; ++i) {
            sum += std::abs(upstream[g * c.spec.group_size + i]);
            largest = std::max(largest, std::abs(static_cast<double>(w[g * c.spec.group_size + i]) / s));
          }
          const double epsilon = static_cast<double>(c.spec.group_size + 4) * 0x1p-24;
          ASSERT_NEAR(ds[g], golden_ds[g], epsilon * sum * (largest + c.spec.max_code())) << g;
          ASSERT_NEAR(dz[g], golden_dz[g], epsilon * sum * (1 + s)) << g;
        }
      }
      // Negative control: a scale off by its last bit is seen.
      scale.assign(groups, 0);
      init_minmax(w, n, k, c.spec, scale, zero);
      scale[groups / 2] = std::nextafter(scale[groups / 2], 1.0f);
      EXPECT_THAT(scale, testing::Not(testing::ElementsAreArray(file.read_f32(c.prefix + "scale"))));
    }
  }
}

}  // namespace
}  // namespace crumb::quant
