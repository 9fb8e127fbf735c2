#include "kernels/swiglu.h"

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class Swiglu : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Swiglu, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

// Every 64th number of [-80, 80] among random ones, so that the whole range of the exponential is seen.
Floats gates(std::int64_t count) {
  Floats gate = random_floats(count, 1, 3.0);
  for (std::int64_t i = 0; i < count; i += 3)
    gate[i] = static_cast<float>(160.0 * static_cast<double>(i) / static_cast<double>(count) - 80.0);
  return gate;
}

TEST_P(Swiglu, ForwardAndBackwardMatchF64) {
  active(swiglu_variants());
  for (const std::int64_t count : {1, 7, 8, 9, 16, 31, 33, 1000, 40001}) {
    SCOPED_TRACE(count);
    const Floats gate = gates(count), up = random_floats(count, 2), grad = random_floats(count, 3);
    std::vector<double> y, y_bound, dg, dg_bound, du, du_bound;
    for (std::int64_t i = 0; i < count; ++i) {
      const double g = gate[i], u = up[i], d = grad[i], s = sigmoid(g);
      y.push_back(g * s * u);
      y_bound.push_back(8 * kUnit * std::abs(g * s * u));
      dg.push_back(d * u * s * (1 + g * (1 - s)));
      dg_bound.push_back(16 * kUnit * (1 + std::abs(g)) * std::abs(d * u));
      du.push_back(d * g * s);
      du_bound.push_back(8 * kUnit * std::abs(d * g * s));
    }
    Floats actual(count), grad_gate(count), grad_up(count);
    swiglu(gate.data(), up.data(), count, actual.data());
    ASSERT_EQ(count_outside(actual.span(), y, y_bound), 0);
    swiglu_backward(gate.data(), up.data(), grad.data(), count, grad_gate.data(), grad_up.data());
    ASSERT_EQ(count_outside(grad_gate.span(), dg, dg_bound), 0);
    ASSERT_EQ(count_outside(grad_up.span(), du, du_bound), 0);
    ASSERT_TRUE(actual.frame_intact() && grad_gate.frame_intact() && grad_up.frame_intact());
    Floats gate2 = gate, up2 = up;
    swiglu_backward(gate2.data(), up2.data(), grad.data(), count, gate2.data(), up2.data());
    ASSERT_TRUE(same_bits(gate2.span(), grad_gate.span()) && same_bits(up2.span(), grad_up.span()));
    // Negative control: a gate moved by 2^-19 of itself.
    Floats moved = gate;
    moved[count / 2] *= 1 + 0x1p-19f;
    swiglu(moved.data(), up.data(), count, actual.data());
    ASSERT_GE(count_outside(actual.span(), y, y_bound, false), 1);
  }
}

TEST_P(Swiglu, SaturatesWithoutInfinitiesAndKeepsNan) {
  Floats gate(9), up(9, 2.0f), y(9), grad_gate(9), grad_up(9), grad(9, 1.0f);
  const float extremes[] = {1e4f, -1e4f, 200.0f, -200.0f, 0.0f, -0.0f, 88.5f, -88.5f, std::nanf("")};
  for (std::int64_t i = 0; i < 9; ++i) gate[i] = extremes[i];
  swiglu(gate.data(), up.data(), 9, y.data());
  swiglu_backward(gate.data(), up.data(), grad.data(), 9, grad_gate.data(), grad_up.data());
  EXPECT_EQ(y[0], 2e4f);
  EXPECT_NEAR(y[1], 0.0f, 1e-30f);
  EXPECT_EQ(y[2], 400.0f);
  EXPECT_EQ(y[4], 0.0f);
  EXPECT_TRUE(std::isnan(y[8]) && std::isnan(grad_gate[8]) && std::isnan(grad_up[8]));
  for (std::int64_t i = 0; i < 8; ++i)
    EXPECT_TRUE(std::isfinite(grad_gate[i]) && std::isfinite(grad_up[i])) << i;
  EXPECT_EQ(grad_gate[0], 2.0f);
  EXPECT_EQ(grad_gate[4], 1.0f);
}

}  // namespace
}  // namespace crumb::kernels::test
