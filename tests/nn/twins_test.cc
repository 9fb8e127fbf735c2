// Every fused operator against its composed twin: values and gradients.
#include <gtest/gtest.h>

#include <cmath>

#include "base/str.h"
#include "nn/composed.h"
#include "nn/decoder_block.h"
#include "nn/fake_quant.h"
#include "nn/functional.h"
#include "nn/head_loss.h"
#include "nn/matmul.h"
#include "nn/range_fake_quant.h"
#include "quant/affine.h"

namespace crumb::nn {
namespace {

const Compute kFused{Precision::kF32, true}, kComposed{Precision::kF32, false},
    kEager{Precision::kF32, false, true};

at::Tensor random(at::IntArrayRef shape, double scale = 1) {
  return at::randn(shape) * scale;
}

double relative(const at::Tensor& a, const at::Tensor& b) {
  // A gradient may be exactly zero (attention over one token); values here are of order one.
  const double floor = 0.05 * std::sqrt(static_cast<double>(b.numel()));
  return (a - b).norm().item<double>() / std::max(b.norm().item<double>(), floor);
}

// Value and gradients of sum(f(inputs) * weights) for each input, by both forms; returns the largest relative
// L2 difference. f32 sums of a few hundred terms in another order: 1e-5 is 80 roundings.
template <class F>
double difference(std::vector<at::Tensor> inputs, const F& f) {
  std::vector<at::Tensor> results[2];
  at::Tensor weights;
  for (int form = 0; form < 2; ++form) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& x : inputs) leaves.push_back(x.detach().clone().requires_grad_(true));
    const at::Tensor y = f(leaves, form == 0 ? kFused : kComposed);
    if (!weights.defined()) weights = random(y.sizes());
    (y * weights).sum().backward();
    results[form].push_back(y.detach());
    for (const at::Tensor& leaf : leaves) results[form].push_back(leaf.grad());
  }
  double worst = 0;
  for (std::size_t i = 0; i < results[0].size(); ++i)
    worst = std::max(worst, relative(results[0][i], results[1][i]));
  return worst;
}

constexpr double kTolerance = 1e-5;

class Twins : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(7); }
};

TEST_F(Twins, RangeFakeQuant) {
  using Scheme = RangeQuant::Scheme;
  for (const Scheme scheme : {Scheme::kAsymmetric, Scheme::kSymmetric, Scheme::kNoZeroPoint}) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const bool holds_zero : {true, false}) {
        SCOPED_TRACE(cat(static_cast<int>(scheme), " ", bits, " ", holds_zero));
        const RangeQuant how{bits, scheme, holds_zero, 1e-5};
        const at::Tensor gamma = at::rand({24, 1}) * 0.5 + 0.5, beta = at::rand({24, 1}) * 0.5 + 0.5;
        EXPECT_LT(difference({random({24, 64}) + 0.3, gamma, beta},
                             [&](const std::vector<at::Tensor>& in, const Compute& compute) {
                               return compute.fused ? range_fake_quant(in[0], in[1], in[2], how)
                                                    : composed::range_fake_quant(in[0], in[1], in[2], how);
                             }),
                  kTolerance);
      }
    }
  }
}

TEST_F(Twins, RmsNormHoldsMassiveActivations) {
  at::Tensor x = random({2, 5, 96});
  x[0][0][3] = 23200;
  EXPECT_LT(difference({x, random({96})},
                       [](auto& in, const Compute& c) { return rms_norm(in[0], in[1], 1e-5, c); }),
            kTolerance);
}

TEST_F(Twins, RopeAtAnOffset) {
  model::ModelConfig config;
  config.head_dim = 24;
  const RopeTable table = make_rope_table(config, 32, at::kCPU);
  EXPECT_LT(difference({random({2, 7, 3 * 24})},
                       [&](auto& in, const Compute& c) { return rope(in[0], table, 24, 5, c); }),
            kTolerance);
}

TEST_F(Twins, AttentionWithGroupedHeadsOddLengthsAndWindow) {
  for (const std::int64_t t : {1, 7, 65, 130}) {
    for (const std::int64_t window : {0, 9}) {
      SCOPED_TRACE(cat("tokens ", t, " window ", window));
      EXPECT_LT(difference({random({2, t, 6 * 20}), random({2, t, 2 * 20}), random({2, t, 2 * 20})},
                           [&](auto& in, const Compute& c) {
                             return causal_attention(in[0], in[1], in[2], 6, 2, 20, window, c);
                           }),
                kTolerance);
    }
  }
}

TEST_F(Twins, EagerAttentionEqualsSdpa) {
  const at::Tensor q = random({1, 33, 64}), k = random({1, 33, 32}), v = random({1, 33, 32});
  EXPECT_LT(relative(causal_attention(q, k, v, 4, 2, 16, 0, kEager),
                     causal_attention(q, k, v, 4, 2, 16, 0, kComposed)),
            kTolerance);
}

TEST_F(Twins, SwigluAndMse) {
  EXPECT_LT(difference({random({3, 50}, 4), random({3, 50})},
                       [](auto& in, const Compute& c) { return swiglu(in[0], in[1], c); }),
            kTolerance);
  const at::Tensor target = random({3, 50});
  EXPECT_LT(difference({random({3, 50})},
                       [&](auto& in, const Compute& c) { return mse_loss(in[0], target, c).reshape({1}); }),
            kTolerance);
  const at::Tensor massive = target * at::tensor({1.0f, 300.0f, 2.0f}).view({3, 1});
  EXPECT_LT(difference({random({3, 50})},
                       [&](auto& in, const Compute& c) {
                         return mse_loss(in[0] * at::tensor({1.0f, 300.0f, 2.0f}).view({3, 1}), massive, c, 4)
                             .reshape({1});
                       }),
            kTolerance);
}

// By hand: energies 4, 400 and 16 with median 16; a cap of 2 leaves 32, so the second token's errors count 32
// / 400.
TEST(MseLoss, TokensAboveTheCapCountAsIfTheyHadItsEnergy) {
  const Compute compute{Precision::kF32, true};
  const at::Tensor target = at::tensor({2.0f, 2.0f, 20.0f, -20.0f, 4.0f, 4.0f}).view({1, 3, 2}),
                   y = target + at::tensor({1.0f, 0.0f, 10.0f, 0.0f, 0.0f, 2.0f}).view({1, 3, 2});
  const auto loss = [&](double cap) { return mse_loss(y, target, compute, cap).item<double>(); };
  EXPECT_NEAR(loss(0), (1 + 100 + 4) / 6.0, 1e-5);
  EXPECT_NEAR(loss(2), (1 + 100 * 32 / 400.0 + 4) / 6.0, 1e-5);
  EXPECT_EQ(loss(25), loss(0)) << "nothing is above 25 times the median";
  EXPECT_EQ(mse_loss(y, at::zeros_like(y), compute, 2).item<double>(),
            mse_loss(y, at::zeros_like(y), compute).item<double>())
      << "a median of 0 caps nothing";
}

TEST_F(Twins, FakeQuantLinearWithClippedAndUnclippedWeights) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const quant::Grid grid : {quant::Grid::kAsym, quant::Grid::kSignedSym}) {
      SCOPED_TRACE(cat("bits ", bits, " grid ", quant::to_string(grid)));
      const quant::AffineSpec spec{bits, 32, grid};
      const at::Tensor w = random({24, 96}), scale = (at::rand({24, 3}) + 0.5) * 1.5 / (1 << (bits - 1)),
                       zero = at::rand({24, 3}) * static_cast<double>(spec.max_code());
      EXPECT_LT(difference({random({9, 96}), w, scale, zero},
                           [&](auto& in, const Compute& c) {
                             return fake_quant_linear(in[0], in[1], in[2], in[3], {}, spec, c);
                           }),
                kTolerance);
      // More rows than one piece of the backward pass. The sums are taken of copies, as the leaves are
      // overwritten.
      EXPECT_LT(difference({random({515, 96}), random({515, 96}), w, scale, zero},
                           [&](auto& in, const Compute& c) {
                             return swiglu_fake_quant_linear(in[0] * 1, in[1] * 1, in[2], in[3], in[4], {},
                                                             spec, c);
                           }),
                kTolerance);
      EXPECT_LT(
          difference({w, scale, zero},
                     [&](auto& in, const Compute& c) { return fake_quant(in[0], in[1], in[2], spec, c); }),
          kTolerance);
    }
  }
}

TEST_F(Twins, AFlippedCodeIsNoticed) {  // negative control of the test above
  const quant::AffineSpec spec{2, 32, quant::Grid::kAsym};
  const at::Tensor w = random({8, 64}), scale = at::full({8, 2}, 0.7), zero = at::full({8, 2}, 1.0);
  at::Tensor moved = w.clone();
  moved[3][5] += 0.7;
  EXPECT_GT(
      relative(fake_quant(moved, scale, zero, spec, kFused), fake_quant(w, scale, zero, spec, kComposed)),
      kTolerance);
}

TEST_F(Twins, PackedLinearTrainsScalesOnly) {
  for (const int bits : {2, 3, 4, 8}) {
    const quant::AffineSpec spec{bits, 32, quant::Grid::kAsym};
    quant::QuantizedLinear q{12, 96, spec, {}, {}, {}};
    const at::Tensor codes = at::randint(0, spec.max_code() + 1, {12 * 96}),
                     zeros = at::randint(0, spec.max_code() + 1, {12 * 3});
    for (std::int64_t i = 0; i < codes.numel(); ++i)
      q.codes.push_back(static_cast<std::uint8_t>(codes[i].item<float>()));
    for (std::int64_t i = 0; i < zeros.numel(); ++i)
      q.zero_points.push_back(static_cast<std::uint8_t>(zeros[i].item<float>()));
    q.scales.assign(36, 0.125f);
    QuantLinear linear;
    linear.set_packed(q, at::kCPU);
    EXPECT_LT(difference({random({5, 96}), linear.scale},
                         [&](auto& in, const Compute& c) {
                           return packed_linear(in[0], linear.words, in[1], linear.zero_point, {}, spec, c);
                         }),
              kTolerance)
        << bits;
    EXPECT_LT(difference({random({5, 96}), random({5, 96}), linear.scale},
                         [&](auto& in, const Compute& c) {
                           return swiglu_packed_linear(in[0] * 1, in[1] * 1, linear.words, in[2],
                                                       linear.zero_point, {}, spec, c);
                         }),
              kTolerance)
        << bits;
    std::vector<float> expected = quant::dequantize(q);
    EXPECT_TRUE(
        at::equal(dequantize_packed(linear.words, linear.scale, linear.zero_point, 96, spec).flatten(),
                  at::from_blob(expected.data(), {12 * 96}, at::kFloat)))
        << bits;
  }
}

TEST_F(Twins, ASpentGraphIsNotWalkedTwice) {
  const quant::AffineSpec spec{2, 32, quant::Grid::kAsym};
  const at::Tensor gate = random({3, 32}).requires_grad_(true), up = random({3, 32}).requires_grad_(true);
  const at::Tensor y = swiglu_fake_quant_linear(gate * 1, up * 1, random({4, 32}), at::full({4, 1}, 0.7),
                                                at::full({4, 1}, 1.0), {}, spec, kFused)
                           .sum();
  y.backward({}, /*retain_graph=*/true);
  EXPECT_DEATH(y.backward(), "spent");
}

TEST_F(Twins, AdamWOverThreeSteps) {
  const AdamWSettings settings{.weight_decay = 0.1};
  at::Tensor w[2], m[2], v[2];
  w[0] = random({37, 11});
  w[1] = w[0].clone();
  for (int form = 0; form < 2; ++form) {
    m[form] = at::zeros({37, 11});
    v[form] = at::zeros({37, 11});
  }
  for (std::int64_t step = 1; step <= 3; ++step) {
    const at::Tensor g = random({37, 11});
    adamw_step(w[0], g, m[0], v[0], step, 1e-2, settings);
    composed::adamw_step(w[1], g, m[1], v[1], step, 1e-2, settings);
  }
  EXPECT_LT(relative(w[0], w[1]), 1e-6);
  EXPECT_LT(relative(m[0], m[1]), 1e-6);
  EXPECT_LT(relative(v[0], v[1]), 1e-6);
}

TEST_F(Twins, HeadLossesInChunksEqualAutogradOfTheWhole) {
  const at::Tensor head = random({101, 16}), teacher = random({23, 16}),
                   targets = at::randint(0, 101, {23}, at::kLong);
  for (const Compute& compute : {kFused, kComposed}) {
    const at::Tensor hidden = random({23, 16}).requires_grad_(true);
    const at::Tensor log_p = at::log_softmax(at::matmul(hidden, head.t()), -1);
    const at::Tensor nll = -log_p.gather(1, targets.unsqueeze(1)).mean();
    nll.backward();
    const HeadLoss ce = head_cross_entropy(hidden, head, targets, 5, compute, true);
    EXPECT_NEAR(ce.loss, nll.item<double>(), 1e-5);
    EXPECT_LT(relative(ce.grad_hidden, hidden.grad()), kTolerance);
    hidden.mutable_grad() = at::Tensor();
    const at::Tensor log_t = at::log_softmax(at::matmul(teacher, head.t()), -1);
    const at::Tensor kl =
        (log_t.exp() * (log_t - at::log_softmax(at::matmul(hidden, head.t()), -1))).sum(-1).mean();
    kl.backward();
    const HeadLoss ours = head_kl(hidden, teacher, head, 7, compute, true);
    EXPECT_NEAR(ours.loss / kl.item<double>(), 1, 1e-5);
    EXPECT_LT(relative(ours.grad_hidden, hidden.grad()), kTolerance);
  }
}

TEST_F(Twins, WholeBlockWithQkNormAndBiases) {
  model::ModelConfig c;
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 24;  // not hidden / heads
  c.qk_norm = true;
  const quant::AffineSpec spec{2, 32, quant::Grid::kAsym};
  DecoderBlock block(c);
  for (auto& [name, norm] : block.norms())
    *norm = at::rand({norm == &block.q_norm || norm == &block.k_norm ? 24 : 64}) + 0.5;
  for (const model::LinearRole role : model::kLinearRoles) {
    QuantLinear& linear = block.linear(role);
    const model::LinearShape shape = model::linear_shape(c, role);
    linear.n = shape.n;
    linear.k = shape.k;
    linear.weight = random({shape.n, shape.k}, 0.2);
    linear.bias = random({shape.n}, 0.1);
    linear.start_fake_quant(spec, at::full({shape.n, shape.k / 32}, 0.15),
                            at::full({shape.n, shape.k / 32}, 1.0));
  }
  const RopeTable table = make_rope_table(c, 16, at::kCPU);
  EXPECT_LT(
      difference({random({2, 11, 64})},
                 [&](auto& in, const Compute& compute) { return block.forward(in[0], table, compute); }),
      5 * kTolerance);
}

TEST_F(Twins, AConstantInputNeedsNoGradientOfItsNorm) {
  const quant::AffineSpec spec{2, 32, quant::Grid::kAsym};
  const at::Tensor x = random({9, 96});
  at::Tensor channel = random({96});
  channel[5] = 0;  // its gradient is that of the others
  const at::Tensor w = random({24, 96}, 0.5), scale = at::rand({24, 3}) + 0.3, zero = at::rand({24, 3}) * 3;
  EXPECT_LT(difference({channel, w, scale, zero},
                       [&](auto& in, const Compute& c) {
                         return scaled_fake_quant_linear(x, (x * in[0]).detach(), in[0], in[1], in[2], in[3],
                                                         {}, spec, c);
                       }),
            kTolerance);
}

TEST_F(Twins, AllGradientsOfABlockWithAConstantInput) {
  model::ModelConfig c;
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 16;
  const RopeTable table = make_rope_table(c, 16, at::kCPU);
  const at::Tensor x = random({2, 11, 64});
  std::vector<at::Tensor> leaves = {at::rand({64}) + 0.5, at::rand({64}) + 0.5};
  for (const model::LinearRole role : model::kLinearRoles) {
    const model::LinearShape shape = model::linear_shape(c, role);
    leaves.push_back(random({shape.n, shape.k}, 0.2));
    leaves.push_back(at::full({shape.n, shape.k / 32}, 0.15));
    leaves.push_back(at::full({shape.n, shape.k / 32}, 1.0));
  }
  EXPECT_LT(difference(leaves,
                       [&](auto& in, const Compute& compute) {
                         DecoderBlock block(c);
                         block.input_norm = in[0];
                         block.post_attention_norm = in[1];
                         std::size_t next = 2;
                         for (const model::LinearRole role : model::kLinearRoles) {
                           QuantLinear& linear = block.linear(role);
                           linear.n = in[next].size(0);
                           linear.k = in[next].size(1);
                           linear.weight = in[next];
                           linear.start_fake_quant({2, 32, quant::Grid::kAsym}, in[next + 1], in[next + 2]);
                           next += 3;
                         }
                         return block.forward(x, table, compute);
                       }),
            5 * kTolerance);
}

TEST_F(Twins, CachedDecodingEqualsTheWholeForward) {
  model::ModelConfig c;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 8;
  DecoderBlock block(c);
  for (auto& [name, norm] : block.norms()) *norm = at::ones({32});
  for (const model::LinearRole role : model::kLinearRoles) {
    const model::LinearShape shape = model::linear_shape(c, role);
    QuantLinear& linear = block.linear(role);
    linear.weight = random({shape.n, shape.k}, 0.3);
    linear.n = shape.n;
    linear.k = shape.k;
  }
  const RopeTable table = make_rope_table(c, 12, at::kCPU);
  for (const std::int64_t window : {0, 4}) {
    c.sliding_window = window;
    DecoderBlock windowed(c);
    for (auto& [name, norm] : windowed.norms()) *norm = at::ones({32});
    for (const model::LinearRole role : model::kLinearRoles) windowed.linear(role) = block.linear(role);
    const at::NoGradGuard no_grad;
    const at::Tensor x = random({2, 12, 32}), whole = windowed.forward(x, table, kFused);
    KvCache cache{at::empty({2, 2, 12, 8}), at::empty({2, 2, 12, 8}), 0};
    at::Tensor pieces = windowed.forward(x.narrow(1, 0, 5), table, kFused, &cache);
    for (std::int64_t t = 5; t < 12; ++t)
      pieces = at::cat({pieces, windowed.forward(x.narrow(1, t, 1), table, kFused, &cache)}, 1);
    EXPECT_LT(relative(pieces, whole), kTolerance) << window;
  }
}

}  // namespace
}  // namespace crumb::nn
