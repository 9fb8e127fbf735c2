#include "methods/gram.h"

#include <gtest/gtest.h>

#include <limits>

#include "support/expect_error.h"

namespace crumb::methods {
namespace {

// An f32 product of 700 rows against the f64 one: bound of gram.h, with the largest |x|^T |x|.
double bound(const at::Tensor& x) {
  return 1024 * 0x1p-24 * at::mm(x.t().abs(), x.abs()).max().item<double>();
}

TEST(Gram, AddsBatchesOfAnyLengthBeyondOneStrip) {
  at::manual_seed(1);
  const std::int64_t k = 1100;  // more than a strip: the mirrored part is not empty
  const at::Tensor x = at::randn({1500, k}) * at::linspace(0.1, 3, k);
  Gram gram(k);
  gram.add(x.narrow(0, 0, 1));
  gram.add(x.narrow(0, 1, 1290));
  gram.sum();  // reading between batches changes nothing
  gram.add(x.narrow(0, 1291, 209));
  const at::Tensor wide = x.to(at::kDouble), exact = at::mm(wide.t(), wide);
  EXPECT_EQ(gram.tokens(), 1500);
  EXPECT_EQ(gram.sum().scalar_type(), at::kDouble);
  EXPECT_LT((gram.sum() - exact).abs().max().item<double>(), bound(wide));
  EXPECT_TRUE(at::equal(gram.sum(), gram.sum().t()));
  EXPECT_LT((gram.hessian() - exact * (2.0 / 3)).abs().max().item<double>(), bound(wide));
}

TEST(Gram, QuadraticErrorIsTheOutputs) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({50, 24}), d = at::randn({1030, 24});
  Gram gram(24);
  gram.add(x);
  const double outputs = at::mm(x.to(at::kDouble), d.t().to(at::kDouble)).square().sum().item<double>();
  EXPECT_NEAR(quadratic_error(d, gram.sum()) / outputs, 1, 1e-6);
  EXPECT_NEAR(quadratic_error(d, gram.sum().to(at::kFloat)) / outputs, 1, 1e-5);

  const at::Tensor s = at::rand({24}) + 0.5;
  Gram divided(24);
  divided.add(x / s);
  EXPECT_LT((gram_of_divided(gram.sum(), s) - divided.sum()).abs().max().item<double>(), bound(x / s));
}

TEST(Gram, RefusesWhatIsNoInput) {
  const double inf = std::numeric_limits<double>::infinity();
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.gram", "[3, 5]", "[M, 4]"}, [] {
    Gram(4).add(at::zeros({3, 5}));
  });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.gram", "Half"}, [] {
    Gram(4).add(at::zeros({3, 4}, at::kHalf));
  });
  test::expect_error(ErrorKind::kNumerics, {"methods.gram", "[2, 1]", "not finite"}, [&] {
    at::Tensor x = at::zeros({3, 4});
    x[2][1] = inf;
    Gram(4).add(x);
  });
  test::expect_error(ErrorKind::kInvalidArgument, {"methods.gram", "none were added"}, [] { Gram(4).sum(); });
}

}  // namespace
}  // namespace crumb::methods
