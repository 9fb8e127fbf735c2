// Quantizers of activations, and the decoder block with them and with norm biases.
#include "nn/activation_quant.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/str.h"
#include "nn/decoder_block.h"
#include "nn/range_fake_quant.h"
#include "quant/affine.h"

namespace crumb::nn {
namespace {

using at::Tensor;
using Scheme = RangeQuant::Scheme;

const Compute kFused, kComposed{Precision::kF32, /*fused=*/false};

Tensor row(std::vector<float> values) {
  return at::tensor(at::ArrayRef<float>(values)).view({1, -1});
}

double worst(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(OmniQuantActivations, HandCase) {  // per token, 4 bits
  ActivationQuant how;
  how.bits = 4;
  how.holds_zero = false;
  const Tensor x = at::cat({row({-1.5, 0, 0.75, 6}), row({0.2, 0.4, -0.1, 0.5})});
  EXPECT_LT(
      worst(fake_quant_activation(x, how), at::cat({row({-1.5, 0, 1.0, 6}), row({0.2, 0.4, -0.08, 0.48})})),
      1e-6);
  const RangeGrid grid = range_grid(x, {}, {}, {4, Scheme::kAsymmetric, false});
  EXPECT_TRUE(at::equal(grid.zero_point.flatten(), at::tensor({3.0f, 2.0f})));
  EXPECT_LT(worst(grid.scale.flatten(), at::tensor({0.5f, 0.04f})), 1e-8);
}

TEST(OmniQuantActivations, OffGivesTheTensorItself) {
  const Tensor x = at::randn({3, 8});
  EXPECT_TRUE(fake_quant_activation(x, {}).is_same(x));
  EXPECT_FALSE(ActivationQuants{}.any());
  EXPECT_TRUE(ActivationQuants::dynamic(16, 8, false, true).any());
  EXPECT_FALSE(ActivationQuants::dynamic(16, 8, false, true).query.on());
  EXPECT_FALSE(ActivationQuants::dynamic(8, 16, false, true).query.on())
      << "its product would be one of floats";
  EXPECT_EQ(ActivationQuants::dynamic(6, 8, false, true).query.bits, 6);
}

// The same function with ATen's own gradients, in f64.
Tensor composed_range(const Tensor& x, const Tensor& gamma, const Tensor& beta, const RangeQuant& how) {
  const auto through = [](const Tensor& to, const Tensor& from) { return (to - from).detach() + from; };
  Tensor high = x.amax({1}, true), low = x.amin({1}, true);
  if (how.holds_zero) {
    high = at::where(high >= 0, high, at::zeros_like(high));
    low = at::where(low <= 0, low, at::zeros_like(low));
  }
  const Tensor top = gamma * high, bottom = beta * low;
  const double q = (1 << how.bits) - 1, half = 1 << (how.bits - 1);
  Tensor scale, zero;
  if (how.scheme == Scheme::kAsymmetric) {
    scale = (top - bottom) / q;
    zero = (-bottom / scale).detach().round();
  } else {
    scale = at::maximum(top.abs(), bottom.abs()) / (half - 1);
    zero = at::full_like(scale, how.scheme == Scheme::kSymmetric ? half - 1 : half);
  }
  const Tensor t = x / scale, u = through(t.detach().round(), t) + zero, clipped = u.detach().clamp(0, q);
  return (at::where(u.detach() == clipped, u, clipped) - zero) * scale;
}

TEST(OmniQuantActivations, GradientsAreThoseOfTheComposedFunction) {
  at::manual_seed(3);
  for (const Scheme scheme : {Scheme::kAsymmetric, Scheme::kSymmetric, Scheme::kNoZeroPoint}) {
    for (const bool holds_zero : {false, true}) {
      for (const int bits : {2, 3, 4, 8}) {
        SCOPED_TRACE(cat("scheme ", static_cast<int>(scheme), " holds zero ", holds_zero, " bits ", bits));
        Tensor x = at::randn({9, 40});
        x[0].abs_();  // of one sign
        x[1].abs_().neg_();
        x[2][3] = x[2].max();  // two values share the maximum
        x[2][7] = x[2].max();
        x[4].mul_(x[4] > 0);                  // zeros share the minimum
        if (scheme != Scheme::kAsymmetric) {  // both ends decide the scale
          x[5][0] = 4;
          x[5][1] = -4;
        }
        const Tensor g = at::randn({9, 40}), gamma = at::rand({9, 1}) * 0.4 + 0.6,
                     beta = at::rand({9, 1}) * 0.4 + 0.6;
        beta[5] = gamma[5];
        const RangeQuant how{bits, scheme, holds_zero};
        std::vector<Tensor> f32, f64;
        for (const Tensor& t : {x, gamma, beta}) {
          f32.push_back(t.clone().requires_grad_(true));
          f64.push_back(t.to(at::kDouble).requires_grad_(true));
        }
        const Tensor y = range_fake_quant(f32[0], f32[1], f32[2], how),
                     expected = composed_range(f64[0], f64[1], f64[2], how);
        EXPECT_LT(worst(y, expected), 1e-5);
        (y * g).sum().backward();
        (expected * g).sum().backward();
        // Sums of 40 terms of size one, rounded to f32.
        for (std::size_t i = 0; i < f32.size(); ++i)
          EXPECT_LT(worst(f32[i].grad(), f64[i].grad()), 2e-4) << i;
      }
    }
  }
}

TEST(OmniQuantActivations, DynamicGridsThatHoldZeroAreThoseOfTheScalarTruth) {
  at::manual_seed(4);
  for (const int bits : {2, 4, 8}) {
    Tensor x = at::randn({6, 32});
    x[0].fill_(0.3);
    x[1].zero_();
    x[2].abs_();
    x[3].fill_(-2);
    x[4][0] = -1e7;  // beyond the largest scale
    const RangeQuant how{bits, Scheme::kAsymmetric, true};
    const RangeGrid grid = range_grid(x, {}, {}, how);
    EXPECT_GE(grid.zero_point.min().item<float>(), 0);
    EXPECT_LE(grid.zero_point.max().item<float>(), (1 << bits) - 1);
    const Tensor y = range_fake_quant(x, {}, {}, how);
    EXPECT_LT(worst(y[0], x[0]), 1e-7);  // constant rows stay
    EXPECT_TRUE(at::equal(y[1], x[1]));
    EXPECT_LT(worst(y[3], x[3]), 1e-6);
    std::vector<float> truth(32);
    for (std::int64_t r = 0; r < 6; ++r) {
      if (r == 1) continue;  // its scale is below the floor of the scalar reference
      quant::fake_quant({x[r].const_data_ptr<float>(), 32}, {grid.scale[r].const_data_ptr<float>(), 1},
                        {grid.zero_point[r].const_data_ptr<float>(), 1}, 1, 32,
                        {bits, -1, quant::Grid::kAsym}, truth);
      for (std::size_t c = 0; c < truth.size(); ++c)
        ASSERT_EQ(truth[c], y[r][static_cast<std::int64_t>(c)].item<float>()) << r << " " << c;
    }
  }
}

TEST(OmniQuantActivations, ARowOfOneValueLeavesItsClippingFactorsAlone) {
  const Tensor x = at::full({1, 6}, 0.7), gamma = at::full({1, 1}, 0.5).requires_grad_(true),
               beta = at::full({1, 1}, 0.5).requires_grad_(true);
  for (const double sign : {1.0, -1.0}) {
    const Tensor y = range_fake_quant(x * sign, gamma, beta, {3, Scheme::kAsymmetric, /*holds_zero=*/true});
    EXPECT_LT(worst(y.detach(), x * sign), 1e-6);
    (y * at::arange(1, 7, at::kFloat)).sum().backward();
    EXPECT_NEAR(gamma.grad().item<float>(), 0, 1e-5);
    EXPECT_NEAR(beta.grad().item<float>(), 0, 1e-5);
  }
}

TEST(OmniQuantActivations, StaticQuantizersClipAndPassGradientsInside) {
  using Granularity = ActivationQuant::Granularity;
  const Tensor low = at::tensor({-1.0f, 0.5f, -4.0f}), high = at::tensor({3.0f, 2.0f, 4.0f});
  const ActivationQuant tensor = static_activation_quant(8, Granularity::kPerTensor, false, low, high),
                        channel = static_activation_quant(8, Granularity::kPerChannel, true, low, high);
  EXPECT_EQ(tensor.scale.numel(), 1);
  EXPECT_NEAR(tensor.scale.item<double>(), 8.0 / 255, 1e-7);
  EXPECT_EQ(channel.scale.numel(), 3);
  EXPECT_NEAR(channel.scale[0].item<double>(), 3.0 / 127, 1e-7);
  EXPECT_NEAR(channel.scale[1].item<double>(), 2.0 / 127, 1e-7);
  const Tensor x = row({2.9, 1.0, 9.0}).requires_grad_(true);
  const Tensor y = fake_quant_activation(x, channel);
  EXPECT_LT(worst(y.detach(), row({2.9, 1.0, 4.0})), 0.02);
  y.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), row({1, 1, 0})));
}

// A block with random weights; norms near 1.
DecoderBlock random_block(const model::ModelConfig& c) {
  DecoderBlock block(c);
  block.input_norm = 1 + 0.1 * at::randn({c.hidden_size});
  block.post_attention_norm = 1 + 0.1 * at::randn({c.hidden_size});
  for (const model::LinearRole role : model::kLinearRoles) {
    const model::LinearShape shape = model::linear_shape(c, role);
    QuantLinear& linear = block.linear(role);
    linear.weight = at::randn({shape.n, shape.k}) * 0.2;
    linear.n = shape.n;
    linear.k = shape.k;
  }
  return block;
}

model::ModelConfig small_config() {
  model::ModelConfig c;
  c.family = "llama";
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 8;
  return c;
}

TEST(OmniQuantActivations, EveryQuantizerOfABlockIsUsed) {
  at::manual_seed(5);
  const model::ModelConfig c = small_config();
  const DecoderBlock plain = random_block(c);
  const RopeTable rope = make_rope_table(c, 8, at::kCPU);
  const at::NoGradGuard no_grad;
  const Tensor x = at::randn({2, 8, 32}), y = plain.forward(x, rope, kFused);
  ActivationQuant coarse;
  coarse.bits = 2;
  for (int which = 0; which < 7; ++which) {
    DecoderBlock block = plain;
    ActivationQuants& a = block.activations;
    (which < 4    ? a.linear_inputs[static_cast<std::size_t>(which)]
     : which == 4 ? a.query
     : which == 5 ? a.key
                  : a.value) = coarse;
    EXPECT_GT(worst(block.forward(x, rope, kFused), y), 1e-3) << which;
  }
}

TEST(OmniQuantActivations, CachedDecodingQuantizesKeysAndValuesAsTheWholeForwardDoes) {
  at::manual_seed(6);
  const model::ModelConfig c = small_config();
  DecoderBlock block = random_block(c);
  block.activations = ActivationQuants::dynamic(16, 4, false, true);
  const RopeTable rope = make_rope_table(c, 12, at::kCPU);
  const at::NoGradGuard no_grad;
  const Tensor x = at::randn({1, 12, 32}), whole = block.forward(x, rope, kFused);
  KvCache cache{at::empty({1, 2, 12, 8}), at::empty({1, 2, 12, 8}), 0};
  Tensor pieces = block.forward(x.narrow(1, 0, 5), rope, kFused, &cache);
  for (std::int64_t t = 5; t < 12; ++t)
    pieces = at::cat({pieces, block.forward(x.narrow(1, t, 1), rope, kFused, &cache)}, 1);
  EXPECT_LT(worst(pieces, whole), 1e-4);
  // What the cache holds has at most 16 values a token and head.
  EXPECT_LE(std::get<0>(at::_unique(cache.keys[0][1][7])).numel(), 16);
  block.activations = {};
  EXPECT_GT(worst(block.forward(x, rope, kFused), whole), 1e-3);
}

TEST(OmniQuantActivations, ANormBiasIsAddedAndTakesTheGeneralPath) {
  at::manual_seed(7);
  const model::ModelConfig c = small_config();
  const RopeTable rope = make_rope_table(c, 8, at::kCPU);
  DecoderBlock block = random_block(c);
  const quant::AffineSpec spec{4, 16, quant::Grid::kAsym};
  for (const model::LinearRole role : model::kLinearRoles) {
    QuantLinear& linear = block.linear(role);
    linear.start_fake_quant(spec, at::full({linear.n, spec.groups(linear.k)}, 0.08),
                            at::full({linear.n, spec.groups(linear.k)}, 8.0));
  }
  const Tensor x = at::randn({2, 8, 32}), g = at::randn({2, 8, 32});
  const auto gradient = [&](const Tensor& bias) {  // of input_norm
    DecoderBlock own = block;
    own.input_norm = block.input_norm.clone().requires_grad_(true);
    own.input_norm_bias = bias;
    for (const model::LinearRole role : model::kLinearRoles)
      own.linear(role).scale = block.linear(role).scale.clone().requires_grad_(true);
    (own.forward(x, rope, kFused) * g).sum().backward();
    return own.input_norm.grad();
  };
  const Tensor fast = gradient({}), general = gradient(at::zeros({32}));
  EXPECT_LT((fast - general).norm().item<double>() / fast.norm().item<double>(), 1e-5);
  // (x - d) / s of the norm's output: a bias moves the inputs of the linears by itself.
  const at::NoGradGuard no_grad;
  const Tensor bias = at::randn({32});
  DecoderBlock moved = block;
  moved.input_norm_bias = bias;
  moved.post_attention_norm_bias = -bias;
  EXPECT_LT(worst(moved.linear_inputs(x, rope, kFused).attention_in,
                  block.linear_inputs(x, rope, kFused).attention_in + bias),
            1e-6);
  EXPECT_GT(worst(moved.forward(x, rope, kComposed), block.forward(x, rope, kComposed)), 1e-2);
  // A step that trains the norm computes what evaluation computes, with a bias and with quantizers.
  DecoderBlock quantized = block;
  quantized.activations.linear_inputs[0].bits = 2;
  for (DecoderBlock* each : {&moved, &quantized}) {
    const Tensor evaluated = each->forward(x, rope, kFused);
    each->input_norm = each->input_norm.clone().requires_grad_(true);
    const at::AutoGradMode grad(true);
    EXPECT_LT(worst(each->forward(x, rope, kFused).detach(), evaluated), 1e-5);
  }
}

}  // namespace
}  // namespace crumb::nn
