// Equivalent transformations leave a block's outputs where they are, in every family; what is not equivalent
// is refused.
#include "methods/transform_sites.h"

#include <gtest/gtest.h>

#include <cmath>

#include "methods/random_block.h"
#include "support/expect_error.h"

namespace crumb::methods {
namespace {

using at::Tensor;
using model::LinearRole;

Tensor rows(std::vector<float> values, std::int64_t n) {
  return at::tensor(at::ArrayRef<float>(values)).view({n, -1});
}
Tensor vec(std::vector<float> values) {
  return at::tensor(at::ArrayRef<float>(values));
}
nn::QuantLinear linear_of(const Tensor& weight, const Tensor& bias) {
  nn::QuantLinear linear;
  linear.weight = weight;
  linear.bias = bias;
  linear.n = weight.size(0);
  linear.k = weight.size(1);
  return linear;
}

// specs/omniquant B1: a norm's output, and the linear behind it.
TEST(OmniQuantTransform, HandCaseNormToLinear) {
  nn::QuantLinear fc = linear_of(rows({1, 2, 3, -1}, 2), vec({0.5, 0}));
  const Tensor x = rows({3, 1, -1, -0.5}, 2), y = fc.forward(x, {}), s = vec({2, 0.5}), d = vec({1, -1});
  EXPECT_TRUE(at::equal(y, rows({5.5, 8, -1.5, -2.5}, 2)));
  fold_into_input(fc, s, d);
  EXPECT_TRUE(at::equal(fc.weight, rows({2, 1, 6, -0.5}, 2)));
  EXPECT_TRUE(at::equal(fc.bias, vec({-0.5, 4})));
  EXPECT_TRUE(at::equal(fc.forward((x - d) / s, {}), y));
}

// B2: v to o through a softmax row that sums to 1.
TEST(OmniQuantTransform, HandCaseValueToOutput) {
  nn::QuantLinear v = linear_of(rows({1, 0, 2, -1}, 2), vec({0, 1})),
                  o = linear_of(rows({1, 1, 0, 2}, 2), vec({0, 0}));
  const Tensor x = rows({1, 2, 3, 0}, 2), p = rows({1, 0, 0.25, 0.75}, 2), s = vec({2, 4}), d = vec({1, 2});
  const Tensor y = o.forward(p.mm(v.forward(x, {})), {});
  EXPECT_TRUE(at::equal(y, rows({2, 2, 8, 11}, 2)));
  fold_into_output(v, s, d);
  fold_into_input(o, s, d);
  EXPECT_TRUE(at::equal(v.weight, rows({0.5, 0, 0.5, -0.25}, 2)));
  EXPECT_TRUE(at::equal(v.bias, vec({-0.5, -0.25})));
  EXPECT_TRUE(at::equal(o.weight, rows({2, 4, 0, 8}, 2)));
  EXPECT_TRUE(at::equal(o.bias, vec({3, 4})));
  EXPECT_TRUE(at::equal(o.forward(p.mm(v.forward(x, {})), {}), y));
}

// q . k of a block of one head of two channels whose projections read q and k off the input (1, 2, 3, -1).
double query_key_dot(const Tensor& scale, Tying tying, double position) {
  model::ModelConfig c;
  c.family = "llama";
  c.num_attention_heads = c.num_key_value_heads = 1;
  c.head_dim = 2;
  nn::DecoderBlock block(c);
  block.linear(LinearRole::kQ) = linear_of(rows({1, 0, 0, 0, 0, 1, 0, 0}, 2), {});
  block.linear(LinearRole::kK) = linear_of(rows({0, 0, 1, 0, 0, 0, 0, 1}, 2), {});
  apply_transform(block, transform_site(c, Site::kQueryKey, tying), scale, {});
  const Tensor x = rows({1, 2, 3, -1}, 1), q = block.linear(LinearRole::kQ).forward(x, {}),
               k = block.linear(LinearRole::kK).forward(x, {});
  const nn::RopeTable rope{at::full({1, 1}, std::cos(position)), at::full({1, 1}, std::sin(position))};
  return (nn::rope(q.view({1, 1, 2}), rope, 2, 0, {}) * k).sum().item<double>();
}

TEST(OmniQuantTransform, HandCaseQueryKeyAndRope) {  // B3, B4
  EXPECT_DOUBLE_EQ(query_key_dot(vec({2, 0.5}), Tying::kUntied, 0), 1);
  const double right = std::acos(0.0);
  EXPECT_NEAR(query_key_dot(vec({1}), Tying::kExact, right), -7, 1e-5);
  EXPECT_NEAR(query_key_dot(vec({2}), Tying::kExact, right), -7, 1e-5);
  EXPECT_NEAR(query_key_dot(vec({2, 2}), Tying::kUntied, right), -7, 1e-5);
  EXPECT_NEAR(query_key_dot(vec({2, 0.5}), Tying::kUntied, right), -24.25, 1e-5);
  EXPECT_NEAR(query_key_dot(vec({2, -2}), Tying::kUntied, right), 7, 1e-5);
  EXPECT_NEAR(query_key_dot(vec({2}), Tying::kExact, 1), -5.3499946, 1e-6);
  EXPECT_NEAR(query_key_dot(vec({2, 0.5}), Tying::kUntied, 1), -19.8653691, 1e-5);
}

TEST(OmniQuantTransform, HandCaseGroupedHeads) {  // B5
  model::ModelConfig c;
  c.family = "llama";
  c.num_attention_heads = 2;
  c.num_key_value_heads = 1;
  c.head_dim = 2;
  const TransformSite out = transform_site(c, Site::kValueOutput, Tying::kExact);
  EXPECT_TRUE(at::equal(per_channel(vec({2, 4}), out.consumer_index), vec({2, 4, 2, 4})));
  nn::DecoderBlock block(c);
  block.linear(LinearRole::kV) = linear_of(rows({1, 2}, 2), {});
  block.linear(LinearRole::kO) = linear_of(rows({1, 2, 3, -1}, 1), {});
  apply_transform(block, out, vec({2, 4}), {});
  EXPECT_TRUE(at::equal(block.linear(LinearRole::kV).weight, rows({0.5, 0.5}, 2)));
  EXPECT_TRUE(at::equal(block.linear(LinearRole::kO).weight, rows({2, 8, 6, -4}, 1)));
  // q1 = (1, 2), q2 = (0, -1), k = (3, -1): with RoPE both channels of the head share a factor.
  block.linear(LinearRole::kQ) = linear_of(rows({1, 2, 0, -1}, 4), {});
  block.linear(LinearRole::kK) = linear_of(rows({3, -1}, 2), {});
  apply_transform(block, transform_site(c, Site::kQueryKey, Tying::kExact), vec({2}), {});
  EXPECT_TRUE(at::equal(block.linear(LinearRole::kQ).weight, rows({0.5, 1, 0, -0.5}, 4)));
  EXPECT_TRUE(at::equal(block.linear(LinearRole::kK).weight, rows({6, -2}, 2)));
}

TEST(OmniQuantTransform, HandCaseUpDown) {  // B6
  nn::QuantLinear up = linear_of(rows({1, -2}, 2), {}), down = linear_of(rows({1, 0.5}, 1), {});
  const Tensor act = rows({2, 3}, 1), one = rows({1}, 1), s = vec({2, 4});
  EXPECT_EQ(down.forward(act * up.forward(one, {}), {}).item<double>(), -1);
  fold_into_output(up, s, {});
  fold_into_input(down, s, {});
  EXPECT_TRUE(at::equal(up.weight, rows({0.5, -0.5}, 2)));
  EXPECT_TRUE(at::equal(down.weight, rows({2, 2}, 1)));
  EXPECT_EQ(down.forward(act * up.forward(one, {}), {}).item<double>(), -1);
}

struct Case {
  std::string name;
  model::ModelConfig config;
};

model::ModelConfig opt_config() {
  model::ModelConfig c = test::small_config(4, 4);
  c.family = "opt";
  c.norm = model::NormKind::kLayer;
  c.mlp = model::MlpKind::kRelu;
  c.positions = model::PositionKind::kLearned;
  c.attention_bias = c.attention_output_bias = c.mlp_bias = true;
  return c;
}

std::vector<Case> structures() {
  std::vector<Case> all;
  all.push_back({"llama, heads of their own", test::small_config(4, 4)});
  all.push_back({"llama, grouped heads", test::small_config(4, 2)});
  model::ModelConfig qwen2 = test::small_config(6, 2);
  qwen2.family = "qwen2";
  qwen2.attention_bias = true;
  all.push_back({"qwen2, biases", qwen2});
  model::ModelConfig qwen3 = test::small_config(4, 2);
  qwen3.family = "qwen3";
  qwen3.qk_norm = true;
  qwen3.head_dim = 16;  // not hidden_size / heads
  all.push_back({"qwen3, q and k norms", qwen3});
  model::ModelConfig windowed = test::small_config(4, 1);
  windowed.family = "mistral";
  windowed.sliding_window = 5;
  all.push_back({"mistral, window", windowed});
  model::ModelConfig biased = test::small_config(4, 2);
  biased.attention_bias = biased.attention_output_bias = biased.mlp_bias = true;
  all.push_back({"llama, all biases", biased});
  all.push_back({"opt", opt_config()});
  return all;
}

double change(const nn::DecoderBlock& block, const nn::DecoderBlock& transformed,
              const model::ModelConfig& c) {
  const at::NoGradGuard no_grad;
  const nn::RopeTable rope = nn::make_rope_table(c, 12, at::kCPU);
  const Tensor x = at::randn({2, 12, c.hidden_size}), before = block.forward(x, rope, {}) - x,
               after = transformed.forward(x, rope, {}) - x;
  return (before - after).norm().item<double>() / before.norm().item<double>();
}

// Of either sign and of sizes 0.3 to 3.
Tensor random_scale(std::int64_t factors) {
  const Tensor size = at::exp(at::rand({factors}) * 2.3 - 1.2);
  return at::where(at::rand({factors}) < 0.1, -size, size);
}

constexpr double kRounding =
    2e-6;  // some f32 roundings of a sum of dozens of terms, factors of up to 10 apart

TEST(OmniQuantTransform, OutputsStayInEveryFamily) {
  at::manual_seed(11);
  for (const Case& each : structures()) {
    const nn::DecoderBlock block = test::random_block(each.config);
    nn::DecoderBlock all = block;
    for (const Site site : kSites) {
      SCOPED_TRACE(cat(each.name, ": ", to_string(site)));
      const TransformSite where = transform_site(each.config, site, Tying::kExact);
      const bool positive = site == Site::kUpDown && each.config.mlp == model::MlpKind::kRelu;
      const Tensor any = random_scale(where.factors), scale = positive ? any.abs() : any,
                   shift = where.admits_shift ? at::randn({where.factors}) : Tensor();
      nn::DecoderBlock one = block;
      apply_transform(one, where, scale, shift);
      EXPECT_LT(change(block, one, each.config), kRounding);
      apply_transform(all, where, scale, shift);
    }
    EXPECT_LT(change(block, all, each.config), 2 * kRounding) << each.name;
  }
}

TEST(OmniQuantTransform, TheTestAboveNoticesWhatIsNotEquivalent) {
  at::manual_seed(12);
  const model::ModelConfig c = test::small_config(4, 4);
  const nn::DecoderBlock block = test::random_block(c);
  nn::DecoderBlock untied = block, flipped = block;
  const TransformSite site = transform_site(c, Site::kQueryKey, Tying::kUntied);
  apply_transform(untied, site, random_scale(site.factors), {});
  EXPECT_GT(change(block, untied, c), 1e-2);
  const TransformSite out = transform_site(c, Site::kValueOutput, Tying::kExact);
  Tensor scale = at::ones({out.factors});
  apply_transform(flipped, out, scale, {});
  EXPECT_EQ(change(block, flipped, c), 0);
  flipped.linear(LinearRole::kO).weight[3][5] += 1e-3;
  EXPECT_GT(change(block, flipped, c), 10 * kRounding);
}

TEST(OmniQuantTransform, RefusesWhatAStructureDoesNotAdmit) {
  const auto refused = [](const model::ModelConfig& c, Site site,
                          std::initializer_list<std::string_view> parts) {
    test::expect_error(ErrorKind::kUnsupported, parts, [&] { transform_site(c, site, Tying::kUntied); });
  };
  refused(test::small_config(4, 2), Site::kValueOutput,
          {"v -> o", "llama", "2 key/value heads", "default mode"});
  refused(test::small_config(4, 2), Site::kQueryKey, {"q, k", "16 channels"});
  model::ModelConfig qwen3 = test::small_config(4, 4);
  qwen3.family = "qwen3";
  qwen3.qk_norm = true;
  EXPECT_EQ(transform_site(opt_config(), Site::kQueryKey, Tying::kExact).factors, 32) << "no RoPE, no pairs";
  EXPECT_EQ(transform_site(opt_config(), Site::kMlpInput, Tying::kExact).consumers,
            std::vector{LinearRole::kUp});
  refused(qwen3, Site::kQueryKey, {"q, k", "qwen3", "a norm over each head", "q_norm"});
  EXPECT_NO_THROW(transform_site(qwen3, Site::kValueOutput, Tying::kUntied));
  EXPECT_EQ(transform_site(qwen3, Site::kQueryKey, Tying::kExact).factors, 4);
  EXPECT_EQ(transform_site(test::small_config(4, 2), Site::kQueryKey, Tying::kExact).factors, 8);
}

TEST(OmniQuantTransform, TheLargestChannelOfAFactorCounts) {
  const TransformSite out = transform_site(test::small_config(4, 2), Site::kValueOutput, Tying::kExact);
  Tensor channels = at::arange(32, at::kFloat);  // heads of 8 channels; heads 0, 1 share a key/value head
  EXPECT_TRUE(at::equal(largest_per_factor(out, channels),
                        at::cat({at::arange(8, 16, at::kFloat), at::arange(24, 32, at::kFloat)})));
}

}  // namespace
}  // namespace crumb::methods
