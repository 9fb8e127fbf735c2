#include "kernels/logits.h"

#include <algorithm>
#include <numeric>

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

// Outcome sets: every token alone when `top` == v; else the listed ones and, with `rest`, the union of the
// others.
KlTruth kl_truth(const Floats& student, const Floats& teacher, const std::vector<std::int32_t>& indices,
                 std::int64_t top, bool rest, std::int64_t v, double scale) {
  KlTruth out;
  for (std::int64_t i = 0; i < kRows; ++i) {
    const float *x = student.data() + i * v, *y = teacher.data() + i * v;
    double x_lse = 0, y_lse = 0;
    const std::vector<double> q = softmax(x, v, &x_lse);
    std::vector<double> p = softmax(y, v, &y_lse);
    std::vector<bool> listed(static_cast<std::size_t>(v), false);
    double p_sum = 0, q_sum = 0, loss = 0;
    for (std::int64_t j = 0; j < top; ++j) {
      const auto token = static_cast<std::size_t>(indices[static_cast<std::size_t>(i * top + j)]);
      listed[token] = true;
      p_sum += p[token];
    }
    const double norm = rest ? 1 : p_sum;
    for (std::int64_t j = 0; j < v; ++j) {
      const auto at = static_cast<std::size_t>(j);
      if (!listed[at]) continue;
      p[at] /= norm;
      loss += p[at] * ((y[j] - y_lse - std::log(norm)) - (x[j] - x_lse));
      q_sum += q[at];
    }
    const double p_rest = 1 - p_sum, q_rest = std::max(1e-6, 1 - q_sum);
    const bool counted = rest && p_rest > 1e-6;
    if (counted) loss += p_rest * std::log(p_rest / q_rest);
    out.loss.push_back(loss);
    for (std::int64_t j = 0; j < v; ++j) {
      const auto at = static_cast<std::size_t>(j);
      out.gradient.push_back(scale *
                             (listed[at] ? q[at] - p[at] : q[at] * (counted ? 1 - p_rest / q_rest : 1)));
    }
  }
  return out;
}

std::vector<std::int32_t> best_of(const Floats& teacher, std::int64_t v, std::int64_t top) {
  std::vector<std::int32_t> indices;
  for (std::int64_t i = 0; i < kRows; ++i) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(v));
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](std::int32_t a, std::int32_t b) { return teacher[i * v + a] > teacher[i * v + b]; });
    indices.insert(indices.end(), order.begin(), order.begin() + top);
  }
  return indices;
}

TEST_P(Logits, KlAgainstAllLogitsMatchesF64) {
  active(logits_variants());
  for (const std::int64_t v : kVocabularies) {
    SCOPED_TRACE(v);
    const Floats before = logits_of(v, 1), teacher = random_floats(kRows * v, 2, 4.0);
    const KlTruth wanted = kl_truth(before, teacher, best_of(teacher, v, v), v, false, v, 0.5);
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

TEST_P(Logits, KlAgainstTheBestLogitsMatchesF64) {
  const std::int64_t v = 300;
  const Floats before = logits_of(v, 1), teacher = random_floats(kRows * v, 2, 4.0);
  Floats lse(kRows);
  log_sum_exp_rows(teacher.data(), kRows, v, lse.data());
  for (const std::int64_t top : {1, 5, 64}) {
    for (const bool rest : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "top " << top << " rest " << rest);
      const std::vector<std::int32_t> indices = best_of(teacher, v, top);
      std::vector<float> values;
      for (std::size_t j = 0; j < indices.size(); ++j)
        values.push_back(teacher[static_cast<std::int64_t>(j) / top * v + indices[j]]);
      const KlTruth wanted = kl_truth(before, teacher, indices, top, rest, v, 1.0);
      Floats x = before;
      std::vector<double> row_loss(kRows);
      kl_top_rows(x.data(), values.data(), indices.data(), rest ? lse.data() : nullptr, top, kRows, v, 1,
                  true, row_loss.data());
      for (std::int64_t i = 0; i < kRows; ++i) {
        ASSERT_NEAR(row_loss[static_cast<std::size_t>(i)], wanted.loss[static_cast<std::size_t>(i)],
                    loss_bound(before.data() + i * v, v))
            << i;
      }
      const std::vector<double> bound(wanted.gradient.size(), 2 * kGradBound);
      ASSERT_EQ(count_outside(x.span(), wanted.gradient, bound), 0);
    }
  }
}

}  // namespace
}  // namespace crumb::kernels::test
