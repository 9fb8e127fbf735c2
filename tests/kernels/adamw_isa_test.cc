#include "kernels/adamw.h"

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class AdamW : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(AdamW, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

struct State {
  Floats w, grad, m, v;
};

State state_of(std::int64_t count) {
  State s{random_floats(count, 1, 0.05), random_floats(count, 2, 1e-3), random_floats(count, 3, 1e-3),
          random_floats(count, 4, 1e-6)};
  for (float& x : s.v.span()) x = std::abs(x);
  if (count > 2) s.grad[1] = s.m[1] = s.v[1] = 0;
  return s;
}

TEST_P(AdamW, EveryVariantIsTheReferenceBitForBit) {
  const AdamWFunctions& run = active(adamw_variants());
  const AdamWOptions options{1e-4, 0.9, 0.999, 1e-8, 0.01};
  for (const std::int64_t count : {1, 7, 8, 9, 17, 1000, 40003}) {
    for (const std::int64_t step : {1, 2, 1000}) {
      State actual = state_of(count), wanted = state_of(count);
      adamw_step(actual.w.data(), actual.grad.data(), actual.m.data(), actual.v.data(), count, step, options);
      adamw_ref()->step(wanted.w.data(), wanted.grad.data(), wanted.m.data(), wanted.v.data(), count,
                        adamw_coefficients(step, options));
      ASSERT_TRUE(same_bits(actual.w.span(), wanted.w.span()) &&
                  same_bits(actual.m.span(), wanted.m.span()) && same_bits(actual.v.span(), wanted.v.span()))
          << count << " step " << step;
      ASSERT_TRUE(actual.w.frame_intact() && actual.m.frame_intact() && actual.v.frame_intact());
      ASSERT_TRUE(same_bits(actual.grad.span(), wanted.grad.span()));
    }
  }
  static_cast<void>(run);
}

// The same formulas in f64, for three steps; each step rounds w once to 2^-24 of its size and the update to
// some 2^-22 of its own.
TEST_P(AdamW, FollowsTheFormulasInF64) {
  const AdamWOptions o{1e-3, 0.9, 0.999, 1e-8, 0.1};
  Floats w = random_floats(50, 1), m(50), v(50);
  std::vector<double> w64(w.span().begin(), w.span().end()), m64(50, 0), v64(50, 0);
  for (int step = 1; step <= 3; ++step) {
    const Floats grad = random_floats(50, static_cast<std::uint64_t>(step));
    adamw_step(w.data(), grad.data(), m.data(), v.data(), 50, step, o);
    for (std::size_t i = 0; i < 50; ++i) {
      const double g = grad[static_cast<std::int64_t>(i)];
      m64[i] = o.beta1 * m64[i] + (1 - o.beta1) * g;
      v64[i] = o.beta2 * v64[i] + (1 - o.beta2) * g * g;
      w64[i] = w64[i] * (1 - o.lr * o.weight_decay) -
               o.lr * (m64[i] / (1 - std::pow(o.beta1, step))) /
                   (std::sqrt(v64[i] / (1 - std::pow(o.beta2, step))) + o.eps);
      ASSERT_NEAR(w[static_cast<std::int64_t>(i)], w64[i],
                  step * (2 * kUnit * std::abs(w64[i]) + 64 * kUnit * o.lr))
          << step << " " << i;
    }
  }
}

// First step without decay: w moves by lr * sign(gradient), where eps is negligible; a zero gradient moves
// nothing.
TEST_P(AdamW, FirstStepMovesByTheLearningRate) {
  Floats w(4), grad(4), m(4), v(4);
  const float gradients[] = {0.75f, -1.5f, 0.0f, 0.75f};
  for (std::int64_t i = 0; i < 4; ++i) grad[i] = gradients[i];
  adamw_step(w.data(), grad.data(), m.data(), v.data(), 4, 1, {1e-4, 0.9, 0.999, 1e-8, 0});
  EXPECT_NEAR(w[0], -1e-4f, 1e-10f);
  EXPECT_NEAR(w[1], 1e-4f, 1e-10f);
  EXPECT_EQ(w[2], 0.0f);
}

TEST_P(AdamW, SumOfSquaresIsF64AndDoesNotDependOnThreads) {
  for (const std::int64_t count : {0, 1, 9, 70000, 200001}) {
    const Floats x = random_floats(count, 5, 100.0);
    long double wanted = 0;
    for (const float value : x.span()) wanted += static_cast<long double>(value) * value;
    omp_set_num_threads(1);
    const double one = sum_of_squares(x.data(), count);
    omp_set_num_threads(3);
    EXPECT_EQ(one, sum_of_squares(x.data(), count));
    EXPECT_NEAR(one, static_cast<double>(wanted),
                0x1p-53 * static_cast<double>(count) * static_cast<double>(wanted));
  }
}

}  // namespace
}  // namespace crumb::kernels::test
