#include "kernels/fake_quant.h"

#include "base/half.h"
#include "kernels/forced_isa.h"
#include "quant/affine.h"

namespace crumb::kernels::test {
namespace {

class FakeQuant : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(FakeQuant, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

struct Case {
  std::int64_t n, k;
  quant::AffineSpec spec;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {1, 3, 7, 8, 9, 16, 24, 32, 33, 64, 128}) {
      for (const quant::Grid grid : {quant::Grid::kAsym, quant::Grid::kSignedSym})
        all.push_back({5, 2 * group, {bits, group, grid}});
    }
    all.push_back({3, 130, {bits, -1, quant::Grid::kAsym}});
  }
  return all;
}

struct Data {
  Floats w, scale, zero_point, grad;
};

// Ties, both clamps, scales beyond both bounds, zero points outside the grid and of a negative zero.
Data data_of(const Case& c) {
  const std::int64_t groups = c.n * c.spec.groups(c.k);
  Data d{random_floats(c.n * c.k, 1, 0.05), Floats(groups), Floats(groups), random_floats(c.n * c.k, 2)};
  SplitMix64 rng(3);
  for (std::int64_t i = 0; i < groups; ++i) {
    d.scale[i] = static_cast<float>(0.01 + 0.05 * rng.uniform());
    d.zero_point[i] = static_cast<float>((c.spec.max_code() + 2) * rng.uniform() - 1);
    const std::int64_t at = i * c.spec.group_of(c.k);
    if (i % 4 == 0) {
      d.scale[i] = 0.03125f;
      d.w[at] = -0.03125f * 1.5f;  // a tie
    }
    if (i % 5 == 1) d.w[at] = -0.0f;
    if (i % 7 == 2) d.w[at] = 1e4f;
    if (i % 9 == 3) d.scale[i] = 5e-5f;
    if (i % 9 == 4) d.scale[i] = 2e4f;
    if (i % 9 == 5) d.scale[i] = -1.0f;
    if (i % 11 == 6) d.zero_point[i] = -0.25f;
  }
  return d;
}

FakeQuantArgs args_of(const Data& d, const Case& c) {
  return fake_quant_args(d.w.data(), d.scale.data(), d.zero_point.data(), c.n, c.k, c.spec);
}

TEST_P(FakeQuant, ForwardIsTheScalarTruthBitForBit) {
  active(fake_quant_variants());
  for (const Case& c : cases()) {
    SCOPED_TRACE(quant::scheme_name(c.spec));
    const Data d = data_of(c);
    Floats wanted(c.n * c.k), actual(c.n * c.k);
    quant::fake_quant(d.w.span(), d.scale.span(), d.zero_point.span(), c.n, c.k, c.spec, wanted.span());
    fake_quant(args_of(d, c), actual.data());
    ASSERT_TRUE(same_bits(actual.span(), wanted.span()));
    ASSERT_TRUE(actual.frame_intact());
    std::vector<std::uint16_t> bf16(static_cast<std::size_t>(c.n * c.k) + 1, 0xabcd);
    fake_quant_bf16(args_of(d, c), bf16.data());
    for (std::int64_t i = 0; i < c.n * c.k; ++i)
      ASSERT_EQ(bf16[static_cast<std::size_t>(i)], float_to_bf16(wanted[i])) << i;
    ASSERT_EQ(bf16.back(), 0xabcd);
  }
}

TEST_P(FakeQuant, ACodeMovedByOneIsSeen) {
  const Case c{2, 64, {2, 32, quant::Grid::kAsym}};
  Data d = data_of(c);
  d.scale[0] = 0.03125f;
  d.zero_point[0] = 1;
  d.w[5] = 0.03125f * 0.499f;
  Floats wanted(c.n * c.k), actual(c.n * c.k);
  quant::fake_quant(d.w.span(), d.scale.span(), d.zero_point.span(), c.n, c.k, c.spec, wanted.span());
  d.w[5] = 0.03125f * 0.501f;
  fake_quant(args_of(d, c), actual.data());
  EXPECT_FALSE(same_bits(actual.span(), wanted.span()));
}

struct Sums {
  std::vector<double> scale, scale_bound, zero, zero_bound;
  std::int64_t largest = 0;  // the weight with the largest term of a scale's sum
};

// Q3's sums and, for the bound, their absolute terms, all in f64.
Sums sums_of(const Data& d, const Case& c) {
  const std::int64_t group = c.spec.group_of(c.k);
  Sums sums;
  double largest = 0;
  for (std::int64_t i = 0; i < c.n * c.spec.groups(c.k); ++i) {
    const float s = quant::effective_scale(d.scale[i]),
                z = quant::effective_zero_point(d.zero_point[i], c.spec);
    double ds = 0, ds_abs = 0, dz = 0, dz_abs = 0;
    for (std::int64_t j = i * group; j < (i + 1) * group; ++j) {
      const float t = d.w[j] / s, u = std::nearbyint(t) + z,
                  q = std::clamp(u, 0.0f, static_cast<float>(c.spec.max_code()));
      const double g = d.grad[j], term = g * (u == q ? static_cast<double>(std::nearbyint(t)) - t
                                                     : static_cast<double>(q) - z);
      ds += term;
      ds_abs += std::abs(term);
      if (std::abs(term) > largest) {
        largest = std::abs(term);
        sums.largest = j;
      }
      dz += u == q ? 0 : -g * s;
      dz_abs += u == q ? 0 : std::abs(g * s);
    }
    const double bound = static_cast<double>(group + 2) * kUnit;
    sums.scale.push_back(ds);
    sums.scale_bound.push_back(bound * ds_abs);
    sums.zero.push_back(dz);
    sums.zero_bound.push_back(bound * dz_abs);
  }
  return sums;
}

TEST_P(FakeQuant, BackwardMatchesTheScalarTruth) {
  active(fake_quant_variants());
  for (const Case& c : cases()) {
    SCOPED_TRACE(quant::scheme_name(c.spec));
    const Data d = data_of(c);
    const std::int64_t groups = c.n * c.spec.groups(c.k);
    Floats grad_w(c.n * c.k), ds(groups), dz(groups), wanted_w(c.n * c.k), wanted_s(groups), wanted_z(groups);
    quant::fake_quant_backward(d.w.span(), d.scale.span(), d.zero_point.span(), d.grad.span(), c.n, c.k,
                               c.spec, wanted_w.span(), wanted_s.span(), wanted_z.span());
    fake_quant_backward(args_of(d, c), d.grad.data(), grad_w.data(), ds.data(), dz.data());
    ASSERT_TRUE(same_bits(grad_w.span(), wanted_w.span()));
    const Sums sums = sums_of(d, c);
    ASSERT_EQ(count_outside(ds.span(), sums.scale, sums.scale_bound), 0);
    ASSERT_EQ(count_outside(dz.span(), sums.zero, sums.zero_bound), 0);
    ASSERT_TRUE(grad_w.frame_intact() && ds.frame_intact() && dz.frame_intact());
    // In place, and without zero points.
    Floats in_place = d.grad, ds2(groups);
    fake_quant_backward(args_of(d, c), in_place.data(), in_place.data(), ds2.data(), nullptr);
    ASSERT_TRUE(same_bits(in_place.span(), grad_w.span()) && same_bits(ds2.span(), ds.span()));
  }
}

TEST_P(FakeQuant, TheBoundOfTheSumsCatchesOneTermLeftOut) {
  const Case c{4, 128, {3, 64, quant::Grid::kAsym}};
  Data d = data_of(c);
  const Sums sums = sums_of(d, c);
  Floats grad_w(c.n * c.k), ds(8), dz(8);
  d.grad[sums.largest] = 0;
  fake_quant_backward(args_of(d, c), d.grad.data(), grad_w.data(), ds.data(), dz.data());
  EXPECT_GE(count_outside(ds.span(), sums.scale, sums.scale_bound, /*report=*/false), 1);
}

TEST_P(FakeQuant, BitsDoNotDependOnThreads) {
  const Case c{300, 640, {2, 64, quant::Grid::kAsym}};
  const Data d = data_of(c);
  Floats grad_w(c.n * c.k), ds(3000), dz(3000), grad_w3(c.n * c.k), ds3(3000), dz3(3000);
  omp_set_num_threads(1);
  fake_quant_backward(args_of(d, c), d.grad.data(), grad_w.data(), ds.data(), dz.data());
  omp_set_num_threads(3);
  fake_quant_backward(args_of(d, c), d.grad.data(), grad_w3.data(), ds3.data(), dz3.data());
  EXPECT_TRUE(same_bits(grad_w.span(), grad_w3.span()) && same_bits(ds.span(), ds3.span()) &&
              same_bits(dz.span(), dz3.span()));
}

}  // namespace
}  // namespace crumb::kernels::test
