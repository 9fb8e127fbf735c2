#include "kernels/dense_linear.h"

#include "base/half.h"
#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class DenseLinear : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(DenseLinear, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

constexpr DenseType kTypes[] = {DenseType::kF32, DenseType::kF16, DenseType::kBf16};

/// Random weights of a type between NaNs, at an odd multiple of the element's size.
struct Weight {
  Weight(DenseType type, std::int64_t n, std::int64_t k, std::uint64_t seed)
      : exact(random_floats(n * k, seed)), halves(static_cast<std::size_t>(n * k) + 80, 0x7fffu) {
    for (std::int64_t i = 0; i < n * k; ++i) {
      const auto at = static_cast<std::size_t>(i) + 41;
      if (type == DenseType::kF16) exact[i] = f16_to_float(halves[at] = float_to_f16(exact[i]));
      if (type == DenseType::kBf16) exact[i] = bf16_to_float(halves[at] = float_to_bf16(exact[i]));
    }
    matrix = {type, n, k,
              type == DenseType::kF32 ? static_cast<const void*>(exact.data()) : halves.data() + 41};
  }
  Floats exact;
  std::vector<std::uint16_t> halves;
  DenseMatrix matrix;
};

struct Truth {
  std::vector<double> y, bound;
};
Truth truth(const Weight& w, const Floats& x, std::int64_t ldx, std::int64_t m) {
  Truth out;
  const std::int64_t n = w.matrix.n, k = w.matrix.k;
  for (std::int64_t r = 0; r < m; ++r) {
    for (std::int64_t c = 0; c < n; ++c) {
      double sum = 0, size = 0;
      for (std::int64_t i = 0; i < k; ++i) {
        const double term = static_cast<double>(w.exact[c * k + i]) * x[r * ldx + i];
        sum += term;
        size += std::abs(term);
      }
      out.y.push_back(sum);
      out.bound.push_back(static_cast<double>(k + 2) * kUnit * size);
    }
  }
  return out;
}

TEST_P(DenseLinear, MatchesF64) {
  active(dense_linear_variants());
  for (const DenseType type : kTypes) {
    for (const auto& [n, k] : {std::pair{1, 1}, std::pair{3, 7}, std::pair{16, 16}, std::pair{9, 33},
                               std::pair{21, 130}, std::pair{70, 576}}) {
      for (const std::int64_t m : {1, 2, 3, 5, 6, 7, 17}) {
        SCOPED_TRACE(::testing::Message() << to_string(type) << " N " << n << " K " << k << " M " << m);
        const Weight w(type, n, k, 1);
        const std::int64_t ldx = k + 3;
        const Floats x = random_floats(m * ldx, 2);
        const Truth wanted = truth(w, x, ldx, m);
        Floats y(m * n, std::numeric_limits<float>::quiet_NaN());
        dense_multiply(w.matrix, x.data(), ldx, m, 0, n, y.data(), n);
        ASSERT_EQ(count_outside(y.span(), wanted.y, wanted.bound), 0);
        ASSERT_TRUE(y.frame_intact());
      }
    }
  }
}

TEST_P(DenseLinear, TheBoundCatchesOneChangedWeight) {
  for (const DenseType type : kTypes) {
    const Weight w(type, 20, 130, 1);
    const Floats x = random_floats(3 * 130, 2);
    Truth wanted = truth(w, x, 130, 3);
    Weight changed(type, 20, 130, 1);
    // The last number of a row, in the tail of every vector width: one unit of bf16's last place.
    const std::int64_t at = 7 * 130 + 129;
    if (type == DenseType::kF32)
      changed.exact[at] *= 1.0f + 0x1p-8f;
    else
      changed.halves[static_cast<std::size_t>(at) + 41] ^= type == DenseType::kF16 ? 8u : 1u;
    Floats y(3 * 20);
    dense_multiply(changed.matrix, x.data(), 130, 3, 0, 20, y.data(), 20);
    EXPECT_EQ(count_outside(y.span(), wanted.y, wanted.bound, false), 3) << to_string(type);
  }
}

TEST_P(DenseLinear, BitsDependOnNeitherRangeNorNeighbours) {
  for (const DenseType type : kTypes) {
    const std::int64_t n = 45, k = 77, m = 23;
    const Weight w(type, n, k, 3);
    const Floats x = random_floats(m * k, 4);
    Floats whole(m * n), pieces(m * n), rows(m * n);
    dense_multiply(w.matrix, x.data(), k, m, 0, n, whole.data(), n);
    for (const auto& [begin, end] : {std::pair{16, 45}, std::pair{0, 5}, std::pair{5, 16}})
      dense_multiply(w.matrix, x.data(), k, m, begin, end, pieces.data(), n);
    for (std::int64_t r = 0; r < m; ++r)
      dense_multiply(w.matrix, x.data() + r * k, k, 1, 0, n, rows.data() + r * n, n);
    EXPECT_TRUE(same_bits(whole.span(), pieces.span())) << to_string(type);
    EXPECT_TRUE(same_bits(whole.span(), rows.span())) << to_string(type);
  }
}

TEST_P(DenseLinear, RowsAreExact) {
  for (const DenseType type : kTypes) {
    const Weight w(type, 5, 9, 6);
    Floats out(18);
    dense_rows(w.matrix, 2, 4, out.data());
    EXPECT_TRUE(same_bits(out.span(), w.exact.span().subspan(18, 18))) << to_string(type);
    EXPECT_TRUE(out.frame_intact());
  }
}

}  // namespace
}  // namespace crumb::kernels::test
