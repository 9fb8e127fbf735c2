// GPTQ against auto_gptq on one linear.
#include <gtest/gtest.h>

#include "methods/baseline_golden.h"
#include "methods/gptq/gptq.h"
#include "methods/gram.h"

namespace crumb::methods::gptq {
namespace {

using namespace crumb::test;

// The package updates weights in f32, up to 128 times before a group's range is taken: 128^(1/2) roundings of
// 2^-24 are 7e-7 of a weight, and a range of one column's neighborhood may be smaller than the weights that
// moved.
constexpr double kScaleBound = 3e-6, kUntouchedScaleBound = 1e-6;
constexpr std::int64_t kSampleTokens = 64;  // the Hessian was built from batches of so many tokens

Gram gram_of(const at::Tensor& x) {
  Gram gram(x.size(1));
  for (std::int64_t row = 0; row < x.size(0); row += kSampleTokens) gram.add(x.narrow(0, row, kSampleTokens));
  return gram;
}

at::Tensor inputs(const Baseline& golden, const BaselineCase& c) {
  at::Tensor x = golden.x.clone();
  if (c.has("dead")) x.select(1, 10).zero_();
  return x;
}

Options options_of(const BaselineCase& c) {
  Options o;
  o.spec = c.spec;
  o.act_order = c.has("actorder");
  o.static_groups = c.has("static");
  if (c.has("mse")) o.range.rule = RangeRule::kErrorSearch;
  o.scale_f16 = false;
  o.parity = true;
  return o;
}

// Codes times scales of scattered groups.
at::Tensor weight_of(const Result& r) {
  if (r.g_idx.empty()) return dequantized(r.linear);
  const at::Tensor group = at::tensor(at::ArrayRef<std::int32_t>(r.g_idx)).to(at::kLong);
  return (codes_of(r.linear).to(at::kFloat) - zeros_of(r.linear).index_select(1, group)) *
         scales_of(r.linear).index_select(1, group);
}

TEST(GptqGolden, HessianHasTheAuthorsScale) {
  CRUMB_OPEN_BASELINE(golden, "gptq");
  const at::Tensor h = gram_of(golden.x).hessian();
  EXPECT_LT(relative_difference(h.diagonal().to(at::kFloat), tensor(golden.file, "hessian_diag")), 2e-6);
  const at::Tensor row = tensor(golden.file, "hessian_row0");
  EXPECT_LT((h[0].to(at::kFloat) - row).abs().max().item<double>(), 2e-6 * row.abs().max().item<double>());
}

TEST(GptqGolden, CodesScalesAndErrorsEqualThePackage) {
  CRUMB_OPEN_BASELINE(golden, "gptq");
  const auto cases = golden.cases(".codes", "sym");
  EXPECT_FALSE(cases.empty());
  for (const BaselineCase& c : cases) {
    SCOPED_TRACE(c.name);
    const at::Tensor x = inputs(golden, c);
    const Result r = quantize(golden.weight, gram_of(x).hessian(), options_of(c));
    const at::Tensor codes = tensor(golden.file, c.name + ".codes").to(at::kInt);
    const std::int64_t differ = differing(codes_of(r.linear), codes);
    const double scale = relative_difference(scales_of(r.linear), tensor(golden.file, c.name + ".scale"));
    const double mse =
        output_mse(x, weight_of(r), golden.weight) / scalar(golden.file, c.name + ".out_mse") - 1;
    EXPECT_EQ(differ, 0);
    const bool untouched = c.has("static") || c.spec.group_size == -1;  // scales of the original weights
    EXPECT_LT(scale, untouched ? kUntouchedScaleBound : kScaleBound);
    EXPECT_EQ(differing(zeros_of(r.linear), tensor(golden.file, c.name + ".zero")), 0);
    EXPECT_NEAR(mse, 0, 1e-5);
    if (golden.file.find(c.name + ".g_idx") != nullptr) {
      const auto g_idx = golden.file.read_i32(c.name + ".g_idx");
      if (c.has("static")) {
        // Neighbors in the original order: the group of column k is k / G, which needs no list. The package's
        // list says the same once it is put back into that order.
        EXPECT_TRUE(r.g_idx.empty());
      } else {
        EXPECT_EQ(r.g_idx, g_idx);
      }
    }
  }
}

}  // namespace
}  // namespace crumb::methods::gptq
