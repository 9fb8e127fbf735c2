#include "kernels/rms_norm.h"

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class RmsNorm : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(RmsNorm, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

constexpr std::int64_t kWidths[] = {1, 3, 7, 8, 9, 15, 16, 17, 33, 64, 130, 576};
constexpr float kEps = 1e-5f;

struct Wanted {
  std::vector<double> y, y_bound, grad_x, grad_x_bound, grad_weight, grad_weight_bound;
};

Wanted truth(const Floats& x, const Floats& weight, const Floats& grad, std::int64_t m, std::int64_t h) {
  Wanted out;
  out.grad_weight.assign(static_cast<std::size_t>(h), 0);
  out.grad_weight_bound.assign(static_cast<std::size_t>(h), 0);
  for (std::int64_t i = 0; i < m; ++i) {
    double squares = 0, dot = 0, dot_abs = 0;
    for (std::int64_t j = 0; j < h; ++j) {
      squares += static_cast<double>(x[i * h + j]) * x[i * h + j];
      const double term = static_cast<double>(grad[i * h + j]) * weight[j] * x[i * h + j];
      dot += term;
      dot_abs += std::abs(term);
    }
    const double r = 1 / std::sqrt(squares / static_cast<double>(h) + kEps),
                 cubed = r * r * r / static_cast<double>(h);
    for (std::int64_t j = 0; j < h; ++j) {
      const double xv = x[i * h + j], g = grad[i * h + j], w = weight[j];
      out.y.push_back(xv * r * w);
      out.y_bound.push_back(4 * kUnit * std::abs(xv * r * w));
      out.grad_x.push_back(r * g * w - xv * cubed * dot);
      // rstd, two products and the sum round once each; terms of the dot product round once before they are
      // summed in f64.
      out.grad_x_bound.push_back(6 * kUnit * (std::abs(r * g * w) + std::abs(xv) * cubed * dot_abs));
      out.grad_weight[static_cast<std::size_t>(j)] += g * xv * r;
      out.grad_weight_bound[static_cast<std::size_t>(j)] +=
          (32 + 4) * kUnit * std::abs(g * xv * r);  // 32 rows summed in f32
    }
  }
  return out;
}

TEST_P(RmsNorm, ForwardAndBackwardMatchF64) {
  active(rms_norm_variants());
  for (const std::int64_t h : kWidths) {
    for (const std::int64_t m : {1, 2, 37, 70}) {
      SCOPED_TRACE(::testing::Message() << "[" << m << ", " << h << "]");
      Floats x = random_floats(m * h, 1);
      x[0] = 2.3e4f;  // a massive activation
      const Floats weight = random_floats(h, 2), grad = random_floats(m * h, 3);
      const Wanted wanted = truth(x, weight, grad, m, h);
      Floats y(m * h), rstd(m), grad_x(m * h), grad_weight(h, 99.0f), in_place = x;
      rms_norm(x.data(), weight.data(), kEps, m, h, y.data(), rstd.data());
      ASSERT_EQ(count_outside(y.span(), wanted.y, wanted.y_bound), 0);
      rms_norm(in_place.data(), weight.data(), kEps, m, h, in_place.data(), rstd.data());
      ASSERT_TRUE(same_bits(in_place.span(), y.span()));
      rms_norm_backward(x.data(), weight.data(), rstd.data(), grad.data(), m, h, grad_x.data(),
                        grad_weight.data());
      ASSERT_EQ(count_outside(grad_x.span(), wanted.grad_x, wanted.grad_x_bound), 0);
      ASSERT_EQ(count_outside(grad_weight.span(), wanted.grad_weight, wanted.grad_weight_bound), 0);
      ASSERT_TRUE(y.frame_intact() && rstd.frame_intact() && grad_x.frame_intact() &&
                  grad_weight.frame_intact());
      Floats again = grad;
      rms_norm_backward(x.data(), weight.data(), rstd.data(), again.data(), m, h, again.data(), nullptr);
      ASSERT_EQ(count_outside(again.span(), wanted.grad_x, wanted.grad_x_bound), 0);
    }
  }
}

TEST_P(RmsNorm, TheBoundCatchesAChangeOfOneInput) {
  Floats x = random_floats(4 * 64, 1);
  const Floats weight = random_floats(64, 2), grad = random_floats(4 * 64, 3);
  const Wanted wanted = truth(x, weight, grad, 4, 64);
  x[70] += 1e-4f;
  Floats y(4 * 64), rstd(4), grad_x(4 * 64), grad_weight(64);
  rms_norm(x.data(), weight.data(), kEps, 4, 64, y.data(), rstd.data());
  rms_norm_backward(x.data(), weight.data(), rstd.data(), grad.data(), 4, 64, grad_x.data(),
                    grad_weight.data());
  EXPECT_GE(count_outside(y.span(), wanted.y, wanted.y_bound, false), 1);
  EXPECT_GE(count_outside(grad_x.span(), wanted.grad_x, wanted.grad_x_bound, false), 1);
  EXPECT_GE(count_outside(grad_weight.span(), wanted.grad_weight, wanted.grad_weight_bound, false), 1);
}

TEST_P(RmsNorm, BitsDoNotDependOnThreads) {
  const std::int64_t m = 333, h = 200;
  const Floats x = random_floats(m * h, 1), weight = random_floats(h, 2), grad = random_floats(m * h, 3);
  Floats y(m * h), rstd(m), grad_x(m * h), one(h), three(h);
  rms_norm(x.data(), weight.data(), kEps, m, h, y.data(), rstd.data());
  omp_set_num_threads(1);
  rms_norm_backward(x.data(), weight.data(), rstd.data(), grad.data(), m, h, grad_x.data(), one.data());
  omp_set_num_threads(3);
  rms_norm_backward(x.data(), weight.data(), rstd.data(), grad.data(), m, h, grad_x.data(), three.data());
  EXPECT_TRUE(same_bits(one.span(), three.span()));
}

}  // namespace
}  // namespace crumb::kernels::test
