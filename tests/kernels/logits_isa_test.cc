#include "kernels/logits.h"

#include <algorithm>

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class Logits : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Logits, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

constexpr std::int64_t kRows = 7;
constexpr std::int64_t kVocabularies[] = {2, 7, 8, 17, 33, 1000};

// Row 3 holds one dominant logit, row 4 logits a thousand apart.
Floats logits_of(std::int64_t v, std::uint64_t seed) {
  Floats x = random_floats(kRows * v, seed, 4.0);
  x[3 * v] = 60.0f;
  x[4 * v + 1] = -1000.0f;
  return x;
}

std::vector<double> softmax(const float* x, std::int64_t v, double* lse = nullptr) {
  const double m = *std::max_element(x, x + v);
  std::vector<double> p;
  double sum = 0;
  for (std::int64_t i = 0; i < v; ++i) sum += p.emplace_back(std::exp(x[i] - m));
  for (double& value : p) value /= sum;
  if (lse != nullptr) *lse = m + std::log(sum);
  return p;
}

double loss_bound(const float* x, std::int64_t v) {
  double m = 0;
  for (std::int64_t i = 0; i < v; ++i) m = std::max(m, std::abs(static_cast<double>(x[i])));
  return 0x1p-20 * (1 + m);
}
// exp of a shifted logit: the shift rounds to 2^-24 of up to 64, the exponential to 2^-22; then one product.
constexpr double kGradBound = (64 + 8) * kUnit;

TEST_P(Logits, CrossEntropyMatchesF64) {
  active(logits_variants());
  for (const std::int64_t v : kVocabularies) {
    SCOPED_TRACE(v);
    const Floats before = logits_of(v, 1);
    Floats x = before;
    const std::vector<std::int64_t> targets = {0, v - 1, -1, 0, 1, v / 2, v - 1};
    std::vector<double> row_loss(kRows), wanted(kRows, 0.0), gradient, bound;
    double sum = 0;
    for (std::int64_t i = 0; i < kRows; ++i) {
      double lse = 0;
      const std::vector<double> p = softmax(before.data() + i * v, v, &lse);
      const bool counts = targets[static_cast<std::size_t>(i)] >= 0;
      if (counts)
        wanted[static_cast<std::size_t>(i)] = lse - before[i * v + targets[static_cast<std::size_t>(i)]];
      sum += wanted[static_cast<std::size_t>(i)];
      for (std::int64_t j = 0; j < v; ++j) {
        gradient.push_back(counts ? 0.25 * (p[static_cast<std::size_t>(j)] -
                                            (j == targets[static_cast<std::size_t>(i)] ? 1 : 0))
                                  : 0.0);
        bound.push_back(0.25 * kGradBound);
      }
    }
    const double without = cross_entropy_rows(x.data(), targets.data(), kRows, v, 0.25f, false, nullptr);
    ASSERT_TRUE(same_bits(x.span(), before.span()));
    const double loss = cross_entropy_rows(x.data(), targets.data(), kRows, v, 0.25f, true, row_loss.data());
    EXPECT_EQ(loss, without);
    EXPECT_NEAR(loss, sum, kRows * 0x1p-20 * 1001);
    for (std::int64_t i = 0; i < kRows; ++i) {
      ASSERT_NEAR(row_loss[static_cast<std::size_t>(i)], wanted[static_cast<std::size_t>(i)],
                  loss_bound(before.data() + i * v, v))
          << i;
    }
    ASSERT_EQ(count_outside(x.span(), gradient, bound), 0);
    ASSERT_TRUE(x.frame_intact());
    Floats moved = before;
    *std::max_element(moved.data(), moved.data() + v) += 1e-3f;
    cross_entropy_rows(moved.data(), targets.data(), kRows, v, 0.25f, true, row_loss.data());
    EXPECT_GT(std::abs(row_loss[0] - wanted[0]), loss_bound(before.data(), v));
    EXPECT_GE(count_outside(moved.span(), gradient, bound, false), 1);
  }
}

TEST_P(Logits, UniformLogitsGiveTheLogOfTheVocabulary) {
  Floats x(1000, 3.25f);
  const std::int64_t target = 17;
  EXPECT_NEAR(cross_entropy_rows(x.data(), &target, 1, 1000, 1, true, nullptr), std::log(1000.0), 1e-6);
}

TEST_P(Logits, ANonFiniteLogitGivesANonFiniteLoss) {
  Floats x = random_floats(100, 1);
  x[40] = std::nanf("");
  const std::int64_t target = 17;
  EXPECT_TRUE(std::isnan(cross_entropy_rows(x.data(), &target, 1, 100, 1, false, nullptr)));
}

struct KlTruth {
  std::vector<double> loss, gradient;
};

KlTruth kl_truth(const Floats& student, const Floats& teacher, std::int64_t v, double scale) {
  KlTruth out;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const float *x = student.data() + i * v, *y = teacher.data() + i * v;
    double x_lse = 0, y_lse = 0, loss = 0;
    const std::vector<double> q = softmax(x, v, &x_lse), p = softmax(y, v, &y_lse);
    for (std::int64_t j = 0; j < v; ++j) {
      const auto at = static_cast<std::size_t>(j);
      loss += p[at] * ((y[j] - y_lse) - (x[j] - x_lse));
      out.gradient.push_back((q[at] - p[at]) * scale);
    }
    out.loss.push_back(loss);
  }
  return out;
}

TEST_P(Logits, KlAgainstAllLogitsMatchesF64) {
  active(logits_variants());
  for (const std::int64_t v : kVocabularies) {
    SCOPED_TRACE(v);
    const Floats before = logits_of(v, 1), teacher = random_floats(kRows * v, 2, 4.0);
    const KlTruth wanted = kl_truth(before, teacher, v, 0.5);
    Floats x = before;
    std::vector<double> row_loss(kRows);
    const double without = kl_rows(x.data(), teacher.data(), kRows, v, 0.5f, false, nullptr);
    ASSERT_TRUE(same_bits(x.span(), before.span()));
    EXPECT_EQ(kl_rows(x.data(), teacher.data(), kRows, v, 0.5f, true, row_loss.data()), without);
    for (std::int64_t i = 0; i < kRows; ++i) {
      ASSERT_NEAR(row_loss[static_cast<std::size_t>(i)], wanted.loss[static_cast<std::size_t>(i)],
                  loss_bound(before.data() + i * v, v))
          << i;
    }
    const std::vector<double> bound(wanted.gradient.size(), kGradBound);
    ASSERT_EQ(count_outside(x.span(), wanted.gradient, bound), 0);
    ASSERT_TRUE(x.frame_intact());
    Floats same = teacher;
    EXPECT_NEAR(kl_rows(same.data(), teacher.data(), kRows, v, 1, true, nullptr), 0.0, 1e-5);
    for (const float g : same.span()) ASSERT_NEAR(g, 0.0f, kGradBound);
  }
}

}  // namespace
}  // namespace crumb::kernels::test
