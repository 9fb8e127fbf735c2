// The weight quantizer with learned clipping and the dynamic activation quantizers against the authors' code.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/omniquant/lwc.h"
#include "methods/omniquant_golden.h"
#include "nn/activation_quant.h"

namespace crumb::methods::omniquant {
namespace {

using at::Tensor;
using test::tensor;

constexpr double kScaleBound = 1e-6;     // relative
constexpr double kGradientBound = 1e-5;  // absolute; upstream gradients are of size 1

// Values that differ although the code is not within 1e-4 of a rounding tie.
std::int64_t unexplained(const Tensor& values, const Tensor& golden, const Tensor& in_scales) {
  const Tensor away_from_tie = (in_scales - in_scales.floor() - 0.5).abs() > 1e-4;
  return (values != golden).logical_and(away_from_tie).sum().item<std::int64_t>();
}

double worst(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// "w3g64sym_def.rand" and the like; false for other names.
bool parse_case(const std::string& name, WeightQuant& how) {
  int bits = 0, end = 0;
  if (std::sscanf(name.c_str(), "w%d%n", &bits, &end) != 1) return false;
  std::string rest = name.substr(static_cast<std::size_t>(end));
  how = {};
  how.mode = Mode::kParity;
  how.bits = bits;
  if (rest.starts_with("pc")) {
    rest = rest.substr(2);
  } else {
    int group = 0;
    if (std::sscanf(rest.c_str(), "g%d%n", &group, &end) != 1) return false;
    how.group_size = group;
    rest = rest.substr(static_cast<std::size_t>(end));
  }
  if (rest.starts_with("symnozp")) {
    how.scheme = nn::RangeQuant::Scheme::kNoZeroPoint;
  } else if (rest.starts_with("sym")) {
    how.scheme = nn::RangeQuant::Scheme::kSymmetric;
  }
  return true;
}

std::vector<std::string> names_ending_in(const io::SafetensorsFile& file, const std::string& end) {
  std::vector<std::string> names;
  for (const io::TensorInfo& info : file.tensors()) {
    if (info.name.ends_with(end)) names.push_back(info.name.substr(0, info.name.size() - end.size()));
  }
  return names;
}

TEST(OmniQuantQuantizer, WeightGridsFakeQuantAndGradientsEqualTheAuthors) {
  const auto files = test::golden_files("omniquant", "a_");
  if (files.empty()) GTEST_SKIP() << "golden/omniquant/a_*.safetensors is not here (set CRUMB_SHARED)";
  for (const auto& path : files) {
    const io::SafetensorsFile file(path);
    const auto cases = names_ending_in(file, ".fq");
    ASSERT_FALSE(cases.empty()) << path;
    std::set<std::string> shortened;  // the suffix of weights whose last group is not full: "_100"
    for (const io::TensorInfo& info : file.tensors())
      if (info.name.starts_with("w_")) shortened.insert(info.name.substr(1));
    double worst_gradient = 0, worst_scale = 0;
    for (const std::string& name : cases) {
      SCOPED_TRACE(path.filename().string() + " " + name);
      WeightQuant how;
      ASSERT_TRUE(parse_case(name, how));
      const Tensor golden = tensor(file, name + ".fq");
      std::string suffix;
      for (const std::string& one : shortened)
        if (tensor(file, "w" + one).sizes() == golden.sizes()) suffix = one;
      const Tensor w = tensor(file, "w" + suffix).requires_grad_(true), g = tensor(file, "g" + suffix);
      LwcParameters p;
      if (file.find(name + ".up") != nullptr) {
        p = {tensor(file, name + ".up").requires_grad_(true),
             tensor(file, name + ".low").requires_grad_(true)};
      }
      const Tensor w_hat = lwc_fake_quant(w, p, how);
      (w_hat * g).sum().backward();

      const Tensor scale = tensor(file, name + ".scale");
      const std::int64_t n = w.size(0), k = w.size(1), per_row = how.groups(k),
                         group = how.group_size == -1 ? k : how.group_size;
      const Tensor scale_of_each =
          scale.view({n, per_row, 1}).expand({n, per_row, group}).reshape({n, -1}).narrow(1, 0, k);
      EXPECT_EQ(unexplained(w_hat.detach(), golden, w.detach() / scale_of_each), 0);
      if (k % group == 0) {
        const LwcCodes codes = lwc_codes(w, p, how);
        const double scale_error = ((codes.scale - scale) / scale).abs().max().item<double>();
        worst_scale = std::max(worst_scale, scale_error);
        EXPECT_LT(scale_error, kScaleBound);
        if (file.find(name + ".zero") != nullptr) {
          EXPECT_TRUE(at::equal(codes.zero_point, tensor(file, name + ".zero") + 0.0f));
        }
        // What training saw is what the codes say.
        const auto groups = [&](const Tensor& t) { return t.view({n * per_row, group}); };
        EXPECT_TRUE(at::equal((groups(codes.codes).to(at::kFloat) - codes.zero_point) * codes.scale,
                              groups(w_hat.detach())));
      }
      const auto gradient = [&](const Tensor& ours, const std::string& key) {
        const double error = worst(ours, tensor(file, name + key));
        worst_gradient = std::max(worst_gradient, error);
        EXPECT_LT(error, kGradientBound) << key;
      };
      gradient(w.grad(), ".grad_w");
      if (p.up.defined()) {
        gradient(p.up.grad(), ".grad_up");
        gradient(p.low.grad(), ".grad_low");
      }
    }
    RecordProperty("cases", static_cast<int>(cases.size()));
    RecordProperty("worst_scale", cat(worst_scale));
    RecordProperty("worst_gradient", cat(worst_gradient));
  }
}

TEST(OmniQuantQuantizer, TheDefaultModeIsNoticed) {  // negative control of the test above
  const auto files = test::golden_files("omniquant", "a_");
  if (files.empty()) GTEST_SKIP() << "golden/omniquant/a_*.safetensors is not here (set CRUMB_SHARED)";
  const io::SafetensorsFile file(files.front());
  for (const std::string& name : names_ending_in(file, ".fq")) {
    WeightQuant how;
    ASSERT_TRUE(parse_case(name, how));
    if (how.scheme != nn::RangeQuant::Scheme::kAsymmetric) continue;
    how.mode = Mode::kDefault;
    LwcParameters p;
    if (file.find(name + ".up") != nullptr) p = {tensor(file, name + ".up"), tensor(file, name + ".low")};
    EXPECT_GT(worst(lwc_fake_quant(tensor(file, "w"), p, how), tensor(file, name + ".fq")), 1e-2) << name;
  }
}

TEST(OmniQuantQuantizer, ActivationsAndTheirGradientsEqualTheAuthors) {
  const auto files = test::golden_files("omniquant", "b_");
  if (files.empty()) GTEST_SKIP() << "golden/omniquant/b_*.safetensors is not here (set CRUMB_SHARED)";
  for (const auto& path : files) {
    const io::SafetensorsFile file(path);
    double worst_gradient = 0, worst_scale = 0;
    const auto cases = names_ending_in(file, ".grad_x");
    ASSERT_FALSE(cases.empty()) << path;
    for (const std::string& name : cases) {
      SCOPED_TRACE(path.filename().string() + " " + name);
      const bool heads = name.starts_with("qkv");
      const Tensor x = tensor(file, heads ? "qkv" : "x").requires_grad_(true);
      nn::ActivationQuant how;
      how.bits = std::stoi(name.substr(heads ? 3 : 1));
      how.holds_zero = false;
      const Tensor y = nn::fake_quant_activation(x, how);
      (y * tensor(file, heads ? "g_qkv" : "g")).sum().backward();
      const Tensor scale = tensor(file, name + ".scale");
      const nn::RangeGrid grid =
          nn::range_grid(x.detach().view({-1, x.size(-1)}), {}, {},
                         {how.bits, nn::RangeQuant::Scheme::kAsymmetric, /*holds_zero=*/false});
      const double scale_error = ((grid.scale.view_as(scale) - scale) / scale).abs().max().item<double>();
      worst_scale = std::max(worst_scale, scale_error);
      EXPECT_LT(scale_error, kScaleBound);
      EXPECT_TRUE(at::equal(grid.zero_point.view_as(scale), tensor(file, name + ".zero") + 0.0f));
      EXPECT_EQ(unexplained(y.detach(), tensor(file, name + ".fq"), x.detach() / scale), 0);
      const double error = worst(x.grad(), tensor(file, name + ".grad_x"));
      worst_gradient = std::max(worst_gradient, error);
      EXPECT_LT(error, kGradientBound);
    }
    RecordProperty("cases", static_cast<int>(cases.size()));
    RecordProperty("worst_scale", cat(worst_scale));
    RecordProperty("worst_gradient", cat(worst_gradient));
  }
}

}  // namespace
}  // namespace crumb::methods::omniquant
