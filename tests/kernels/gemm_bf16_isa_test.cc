#include "kernels/gemm_bf16.h"

#include "base/half.h"
#include "kernels/amx_model.h"
#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

struct Product {
  Floats a, b, c;
  std::vector<std::uint16_t> a16, b16;
  GemmBf16Args args;
};

Product product_of(std::int64_t m, std::int64_t n, std::int64_t k, bool ta, bool tb, bool accumulate,
                   bool a16, bool b16, std::int64_t gap) {
  const std::int64_t a_rows = ta ? k : m, a_cols = ta ? m : k, b_rows = tb ? n : k, b_cols = tb ? k : n;
  Product p{random_floats(a_rows * (a_cols + gap), 1),
            random_floats(b_rows * (b_cols + gap), 2),
            random_floats(m * (n + gap), 3),
            {},
            {},
            {}};
  const float nan = std::nanf("");
  for (std::int64_t i = 0; i < a_rows; ++i) std::fill_n(p.a.data() + i * (a_cols + gap) + a_cols, gap, nan);
  for (std::int64_t i = 0; i < b_rows; ++i) std::fill_n(p.b.data() + i * (b_cols + gap) + b_cols, gap, nan);
  for (const float x : p.a.span()) p.a16.push_back(float_to_bf16(x));
  for (const float x : p.b.span()) p.b16.push_back(float_to_bf16(x));
  p.args.m = m;
  p.args.n = n;
  p.args.k = k;
  p.args.a = {a16 ? nullptr : p.a.data(), a16 ? p.a16.data() : nullptr, a_cols + gap, ta};
  p.args.b = {b16 ? nullptr : p.b.data(), b16 ? p.b16.data() : nullptr, b_cols + gap, tb};
  p.args.c = p.c.data();
  p.args.ldc = n + gap;
  p.args.accumulate = accumulate;
  return p;
}

struct Wanted {
  std::vector<double> value, bound;
};

// Products of two bf16 are exact in f32, so only the sums round.
Wanted truth(const Product& p) {
  const GemmBf16Args& g = p.args;
  const auto rounded = [](float x) { return static_cast<double>(bf16_to_float(float_to_bf16(x))); };
  Wanted out;
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      double sum = g.accumulate ? p.c[i * g.ldc + j] : 0.0, magnitude = std::abs(sum);
      for (std::int64_t l = 0; l < g.k; ++l) {
        const double term = rounded(p.a[g.a.transpose ? l * g.a.ld + i : i * g.a.ld + l]) *
                            rounded(p.b[g.b.transpose ? j * g.b.ld + l : l * g.b.ld + j]);
        sum += term;
        magnitude += std::abs(term);
      }
      out.value.push_back(sum);
      out.bound.push_back(static_cast<double>(g.k + 2) * kUnit * magnitude);
    }
  }
  return out;
}

std::vector<float> dense(const Product& p) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < p.args.m; ++i)
    out.insert(out.end(), p.c.data() + i * p.args.ldc, p.c.data() + i * p.args.ldc + p.args.n);
  return out;
}

constexpr std::int64_t kShapes[][3] = {{1, 1, 1},      {3, 5, 2},    {12, 32, 32}, {13, 33, 33},
                                       {31, 31, 31},   {32, 32, 64}, {33, 65, 70}, {64, 16, 130},
                                       {17, 100, 600}, {5, 4, 0}};

void check_all(const GemmBf16Functions& functions) {
  for (const auto& [m, n, k] : kShapes) {
    for (int variation = 0; variation < 32; ++variation) {
      SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k << " variation " << variation);
      Product p = product_of(m, n, k, variation & 1, variation & 2, variation & 4, variation & 8,
                             variation & 16, variation % 3);
      const Wanted wanted = truth(p);
      gemm_bf16_with(functions, p.args);
      ASSERT_EQ(count_outside(dense(p), wanted.value, wanted.bound), 0);
      ASSERT_TRUE(p.c.frame_intact());
    }
  }
}

void check_one_change_is_seen(const GemmBf16Functions& functions) {
  Product p = product_of(40, 40, 100, false, true, false, false, false, 0);
  const Wanted wanted = truth(p);
  p.a[7 * 100 + 99] *= 1.0625f;  // eight units of bf16
  gemm_bf16_with(functions, p.args);
  EXPECT_GE(count_outside(dense(p), wanted.value, wanted.bound, false), 1);
}

class GemmBf16 : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(GemmBf16, Isa::kRef, Isa::kAvx512Bf16, Isa::kAmx);

TEST_P(GemmBf16, MatchesF64ForAllLayoutsAndTails) {
  check_all(active(gemm_bf16_variants()));
}

TEST_P(GemmBf16, TheBoundCatchesOneChangedFactor) {
  check_one_change_is_seen(active(gemm_bf16_variants()));
}

TEST_P(GemmBf16, BitsDoNotDependOnThreads) {
  for (const bool tall : {true, false}) {
    const std::int64_t m = tall ? 500 : 70, n = tall ? 70 : 500;
    Product one = product_of(m, n, 300, true, true, true, false, false, 1),
            three = product_of(m, n, 300, true, true, true, false, false, 1);
    omp_set_num_threads(1);
    gemm_bf16(one.args);
    omp_set_num_threads(3);
    gemm_bf16(three.args);
    EXPECT_EQ(std::memcmp(dense(one).data(), dense(three).data(), static_cast<std::size_t>(m * n) * 4), 0);
  }
}

TEST_P(GemmBf16, RoundsOperandsHalfToEvenAndKeepsNan) {
  Product p = product_of(1, 1, 1, false, false, false, false, false, 0);
  p.b[0] = 1.0f;
  for (const float x : {1.00390625f /* tie, down */, 1.01171875f /* tie, up */, 3.0e38f, 1e-30f}) {
    p.a[0] = x;
    gemm_bf16(p.args);
    EXPECT_EQ(p.c[0], bf16_to_float(float_to_bf16(x))) << x;
  }
  p.a[0] = std::nanf("");
  gemm_bf16(p.args);
  EXPECT_TRUE(std::isnan(p.c[0]));
}

TEST(AmxModel, TilesGiveTheProduct) {
  if (!machine_has(Isa::kAvx512))
    GTEST_SKIP() << "packing for the tiles needs avx512; this machine has " << machine_isas();
  const std::int64_t before = amx_model_products();
  check_all(*amx_model());
  EXPECT_GT(amx_model_products(), before);
}

TEST(AmxModel, TheBoundCatchesOneChangedFactor) {
  if (!machine_has(Isa::kAvx512))
    GTEST_SKIP() << "packing for the tiles needs avx512; this machine has " << machine_isas();
  check_one_change_is_seen(*amx_model());
}

}  // namespace
}  // namespace crumb::kernels::test
