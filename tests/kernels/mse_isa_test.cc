#include "kernels/mse.h"

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class Mse : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Mse, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

TEST_P(Mse, LossGradientAndEnergiesMatchF64) {
  active(mse_variants());
  for (const std::int64_t h : {1, 7, 8, 17, 576}) {
    const std::int64_t m = 41;
    const Floats y = random_floats(m * h, 1);
    Floats target = random_floats(m * h, 2);
    target[h] = 2.3e4f;  // a massive activation in the second token
    double wanted = 0;
    std::vector<double> error, energy;
    for (std::int64_t i = 0; i < m; ++i) {
      double e = 0, t = 0;
      for (std::int64_t j = i * h; j < (i + 1) * h; ++j) {
        e += (static_cast<double>(y[j]) - target[j]) * (static_cast<double>(y[j]) - target[j]);
        t += static_cast<double>(target[j]) * target[j];
      }
      error.push_back(e);
      energy.push_back(t);
      wanted += e;
    }
    wanted /= static_cast<double>(m * h);
    Floats grad(m * h);
    std::vector<double> row_error(static_cast<std::size_t>(m)), row_energy(static_cast<std::size_t>(m));
    const double loss =
        mse_loss(y.data(), target.data(), m, h, 0.5f, grad.data(), row_error.data(), row_energy.data());
    EXPECT_NEAR(loss, wanted, 0x1p-22 * wanted);
    for (std::int64_t i = 0; i < m; ++i) {
      const auto at = static_cast<std::size_t>(i);
      ASSERT_NEAR(row_error[at], error[at], 0x1p-22 * error[at] + 1e-300);
      ASSERT_NEAR(row_energy[at], energy[at], static_cast<double>(h) * 0x1p-53 * energy[at]);
    }
    for (std::int64_t i = 0; i < m * h; ++i) {
      const double g = 0.5 * 2 * (static_cast<double>(y[i]) - target[i]) / static_cast<double>(m * h);
      ASSERT_NEAR(grad[i], g, 4 * kUnit * std::abs(g));
    }
    ASSERT_TRUE(grad.frame_intact());
    omp_set_num_threads(1);
    const double one = mse_loss(y.data(), target.data(), m, h, 1, nullptr, nullptr, nullptr);
    omp_set_num_threads(3);
    EXPECT_EQ(one, mse_loss(y.data(), target.data(), m, h, 1, nullptr, nullptr, nullptr));
    EXPECT_EQ(one, loss);
    Floats in_place = y;
    mse_loss(in_place.data(), target.data(), m, h, 0.5f, in_place.data(), nullptr, nullptr);
    EXPECT_TRUE(same_bits(in_place.span(), grad.span()));
    // Negative control: one element moved.
    Floats moved = y;
    moved[0] += 0.01f;
    EXPECT_GT(
        std::abs(mse_loss(moved.data(), target.data(), m, h, 1, nullptr, row_error.data(), nullptr) - wanted),
        0.0);
    EXPECT_GT(std::abs(row_error[0] - error[0]), 0x1p-22 * error[0]);
  }
}

}  // namespace
}  // namespace crumb::kernels::test
