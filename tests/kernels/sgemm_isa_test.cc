#include "kernels/sgemm.h"

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class Sgemm : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Sgemm, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

struct Product {
  Floats a, b, c;
  SgemmArgs args;
};

// Rows lie `gap` floats apart beyond their length, and the gaps hold NaN.
Product product_of(std::int64_t m, std::int64_t n, std::int64_t k, bool ta, bool tb, bool accumulate,
                   std::int64_t gap) {
  const std::int64_t a_rows = ta ? k : m, a_cols = ta ? m : k, b_rows = tb ? n : k, b_cols = tb ? k : n;
  Product p{random_floats(a_rows * (a_cols + gap), 1),
            random_floats(b_rows * (b_cols + gap), 2),
            random_floats(m * (n + gap), 3),
            {}};
  const float nan = std::nanf("");
  for (std::int64_t i = 0; i < a_rows; ++i) std::fill_n(p.a.data() + i * (a_cols + gap) + a_cols, gap, nan);
  for (std::int64_t i = 0; i < b_rows; ++i) std::fill_n(p.b.data() + i * (b_cols + gap) + b_cols, gap, nan);
  for (std::int64_t i = 0; i < m; ++i) std::fill_n(p.c.data() + i * (n + gap) + n, gap, nan);
  p.args = {ta,         tb,           m,          n,       k,         p.a.data(), a_cols + gap,
            p.b.data(), b_cols + gap, p.c.data(), n + gap, accumulate};
  return p;
}

struct Wanted {
  std::vector<double> value, bound;
};

Wanted truth(const SgemmArgs& g, const Floats& c_before) {
  Wanted out;
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      double sum = g.accumulate ? c_before[i * g.ldc + j] : 0.0, magnitude = std::abs(sum);
      for (std::int64_t l = 0; l < g.k; ++l) {
        const double term = static_cast<double>(g.transpose_a ? g.a[l * g.lda + i] : g.a[i * g.lda + l]) *
                            (g.transpose_b ? g.b[j * g.ldb + l] : g.b[l * g.ldb + j]);
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
  for (std::int64_t i = 0; i < p.args.m; ++i) {
    out.insert(out.end(), p.c.data() + i * p.args.ldc, p.c.data() + i * p.args.ldc + p.args.n);
  }
  return out;
}

TEST_P(Sgemm, MatchesF64ForAllLayoutsAndTails) {
  active(sgemm_variants());
  const std::int64_t shapes[][3] = {{1, 1, 1},    {2, 3, 5},      {6, 16, 8},    {12, 32, 16},
                                    {13, 33, 17}, {5, 15, 257},   {7, 31, 64},   {145, 20, 9},
                                    {30, 400, 7}, {120, 64, 256}, {25, 17, 300}, {3, 4, 0}};
  for (const auto& [m, n, k] : shapes) {
    for (int variation = 0; variation < 8; ++variation) {
      SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k << " variation " << variation);
      Product p = product_of(m, n, k, variation & 1, variation & 2, variation & 4, variation % 3);
      const Wanted wanted = truth(p.args, p.c);
      sgemm(p.args);
      ASSERT_EQ(count_outside(dense(p), wanted.value, wanted.bound), 0);
      ASSERT_TRUE(p.c.frame_intact());
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = n; j < p.args.ldc; ++j) ASSERT_TRUE(std::isnan(p.c[i * p.args.ldc + j]));
      }
    }
  }
}

TEST_P(Sgemm, TheBoundCatchesOneChangedFactor) {
  Product p = product_of(20, 40, 300, false, true, false, 0);
  const Wanted wanted = truth(p.args, p.c);
  p.a[7 * 300 + 290] += 0.01f;
  sgemm(p.args);
  EXPECT_GE(count_outside(dense(p), wanted.value, wanted.bound, false), 1);
}

TEST_P(Sgemm, BitsDoNotDependOnThreads) {
  for (const bool tall : {true, false}) {
    const std::int64_t m = tall ? 500 : 70, n = tall ? 70 : 500;
    Product one = product_of(m, n, 300, true, true, true, 1),
            three = product_of(m, n, 300, true, true, true, 1);
    omp_set_num_threads(1);
    sgemm(one.args);
    omp_set_num_threads(3);
    sgemm(three.args);
    EXPECT_EQ(std::memcmp(dense(one).data(), dense(three).data(), static_cast<std::size_t>(m * n) * 4), 0);
  }
}

}  // namespace
}  // namespace crumb::kernels::test
