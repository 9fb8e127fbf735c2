// OmniQuant by hand: clipping, start and truncation, the default mode's promises, training.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/half.h"
#include "methods/omniquant/block_training.h"
#include "methods/random_block.h"
#include "quant/affine.h"
#include "support/expect_error.h"

namespace crumb::methods::omniquant {
namespace {

using at::Tensor;
using model::LinearRole;
using Scheme = nn::RangeQuant::Scheme;

const float kLn3 = std::log(3.0f);
constexpr double kTiny = 2e-6;

Tensor matrix(std::vector<float> values, std::int64_t rows = 1) {
  return at::tensor(at::ArrayRef<float>(values)).view({rows, -1});
}
double worst(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}
WeightQuant parity(int bits, std::int64_t group_size = -1, Scheme scheme = Scheme::kAsymmetric) {
  return {bits, group_size, scheme, Mode::kParity};
}
LwcParameters logits(const Tensor& w, const WeightQuant& how, float up, float low) {
  const Tensor ones = at::ones({w.size(0) * how.groups(w.size(1)), 1});
  return {ones * up, ones * low};
}

// Grid and result of one case; codes are checked where given.
void expect_case(const Tensor& w, const LwcParameters& p, const WeightQuant& how, const Tensor& scale,
                 const Tensor& zero_point, const Tensor& w_hat, const Tensor& codes = {}) {
  const LwcCodes found = lwc_codes(w, p, how);
  EXPECT_LT(worst(found.scale.flatten(), scale.flatten()), kTiny);
  EXPECT_TRUE(at::equal(found.zero_point.flatten() + 0.0f, zero_point.flatten()));
  EXPECT_LT(worst(lwc_fake_quant(w, p, how), w_hat), kTiny);
  if (codes.defined()) {
    EXPECT_TRUE(at::equal(found.codes.to(at::kFloat), codes));
  }
}

const Tensor& w6() {
  static const Tensor w = matrix({-1.0, -0.35, 0.2, 0.6, 1.4, 2.0});
  return w;
}

TEST(OmniQuantLwc, HandCasesAsymmetric) {  // A1, A2, A9, A13
  expect_case(w6(), {}, parity(2), matrix({1}), matrix({1}), matrix({-1, 0, 0, 1, 1, 2}),
              matrix({0, 1, 1, 2, 2, 3}));
  const float h = 0.98201376f;
  expect_case(w6(), start_lwc(1, 6, parity(2), at::kCPU), parity(2), matrix({h}), matrix({1}),
              matrix({-h, 0, 0, h, h, 2 * h}));
  expect_case(matrix({1, 2, 4}), {}, parity(2), matrix({1}), matrix({-1}), matrix({1, 2, 4}));
  expect_case(matrix({-4, -2, -1}), {}, parity(2), matrix({1}), matrix({4}), matrix({-4, -2, -1}));
  expect_case(matrix({0, 0.5, 1.5, 3}), {}, parity(2), matrix({1}), matrix({0}), matrix({0, 0, 2, 3}));
}

// L = sum (w_hat - w)^2 / 2 with w held constant, so that the gradient of w_hat is w_hat - w.
void expect_gradients(const LwcParameters& start, const WeightQuant& how, double up, double low,
                      const Tensor& input) {
  const Tensor w = w6().clone().requires_grad_(true);
  const LwcParameters p{start.up.clone().requires_grad_(true), start.low.clone().requires_grad_(true)};
  const Tensor w_hat = lwc_fake_quant(w, p, how);
  (w_hat * (w_hat - w).detach()).sum().backward();
  EXPECT_NEAR(p.up.grad().item<double>(), up, 1e-6);
  EXPECT_NEAR(p.low.grad().item<double>(), low, 1e-6);
  EXPECT_LT(worst(w.grad(), input), 1e-6);
}

TEST(OmniQuantLwc, HandCasesGradients) {  // A3, A4
  const LwcParameters a3 = logits(w6(), parity(2), 0, 0), a4 = logits(w6(), parity(3), kLn3, 0);
  expect_case(w6(), a3, parity(2), matrix({0.5}), matrix({1}), matrix({-0.5, -0.5, 0, 0.5, 1, 1}),
              matrix({0, 0, 1, 2, 3, 3}));
  expect_gradients(a3, parity(2), -0.5258333, -0.2629167,
                   matrix({0.5258333, -0.15, -0.2, -0.1, 0, -0.5258333}));
  expect_case(w6(), a4, parity(3), matrix({2.0 / 7}), matrix({2}), matrix({-4, -2, 2, 4, 10, 10}) / 7,
              matrix({0, 1, 3, 4, 7, 7}));
  expect_gradients(a4, parity(3), -0.1965210, -0.1310140,
                   matrix({0.2620281, 0.0642857, 0.0857143, -0.0285714, 0.0285714, -0.3930421}));
}

TEST(OmniQuantLwc, HandCaseGroupsWhoseZeroPointNoFormatHolds) {  // A5
  const Tensor w = matrix({0, 3, -2, 1, 1, 2, -6, -3}, 2);
  const WeightQuant how = parity(2, 2);
  expect_case(w, {}, how, matrix({1, 1, 1.0f / 3, 1}), matrix({0, 2, -3, 6}), w);
  // Stored: two groups of one sign get a range that holds 0.
  const StoredLwc stored = lwc_quantized(w, {}, how, /*scale_f16=*/true);
  EXPECT_EQ(stored.moved_groups, 2);
  quant::check_quantized_linear(stored.linear, "A5");
  const auto w_hat = quant::dequantize(stored.linear);
  for (std::int64_t i = 0; i < 8; ++i)
    EXPECT_NEAR(w_hat[static_cast<std::size_t>(i)], w.flatten()[i].item<double>(), i < 4 ? 0 : 1.01);
}

TEST(OmniQuantLwc, HandCasesSymmetric) {  // A6, A7, A8
  const Tensor w = matrix({-3, -1.6, -0.5, 0.4, 1.5, 2.9});
  const WeightQuant sym = parity(3, -1, Scheme::kSymmetric), none = parity(3, -1, Scheme::kNoZeroPoint);
  expect_case(w, {}, sym, matrix({1}), matrix({3}), matrix({-3, -2, 0, 0, 2, 3}));
  expect_case(w, {}, none, matrix({1}), matrix({4}), matrix({-3, -2, 0, 0, 2, 3}));
  expect_case(matrix({-2, -0.9, 0.9, 1.9}), {}, parity(2, -1, Scheme::kSymmetric), matrix({2}), matrix({1}),
              matrix({-2, 0, 0, 2}));
  expect_case(w, logits(w, sym, 0, 0), sym, matrix({0.5}), matrix({3}),
              matrix({-1.5, -1.5, -0.5, 0.5, 1.5, 2.0}));
  expect_case(w, logits(w, none, 0, 0), none, matrix({0.5}), matrix({4}),
              matrix({-2.0, -1.5, -0.5, 0.5, 1.5, 1.5}));
}

TEST(OmniQuantLwc, HandCasesOfOneValue) {  // A10: the authors' grid destroys a constant group, ours keeps it
  expect_case(matrix({0, 0, 0}), {}, parity(4), matrix({1e-5}), matrix({0}), matrix({0, 0, 0}));
  const Tensor w = matrix({0.3, 0.3, 0.3});
  expect_case(w, {}, parity(4), matrix({1e-5}), matrix({-10000}), at::full({1, 3}, 0.10015));
  WeightQuant ours = parity(4);
  ours.mode = Mode::kDefault;
  for (const double value : {0.3, -0.3, 0.0, 1e-3, -7.5}) {
    const Tensor constant = at::full({1, 3}, value);
    EXPECT_LT(worst(lwc_fake_quant(constant, logits(constant, ours, 0, 4), ours), constant),
              1e-6 * std::abs(value) + 1e-12)
        << value;
  }
}

TEST(OmniQuantLwc, HandCaseOfALastGroupFilledWithZeros) {  // A11
  const Tensor w = matrix({-3, -1, 2, 3, 1});
  const WeightQuant how = parity(3, 4, Scheme::kSymmetric);
  EXPECT_EQ(how.groups(5), 2);
  EXPECT_LT(worst(lwc_fake_quant(w, logits(w, how, 40, 40), how), w), 1e-6);
  test::expect_error(ErrorKind::kUnsupported, {"group_size 4", "5 inputs"}, [&] { lwc_codes(w, {}, how); });
  test::expect_error(ErrorKind::kInvalidArgument, {"group_size 4", "5 inputs"},
                     [&] { lwc_fake_quant(w, {}, parity(3, 4)); });
}

// Rows of every kind that spoils a grid.
Tensor hostile(std::int64_t k) {
  Tensor w = at::randn({9, k});
  w[0].zero_();
  w[1].fill_(0.3);
  w[2].abs_();
  w[3][5] = 40;
  w[4].abs_().neg_();
  w[5].mul_(5e-7);
  w[6].mul_(w[6] > 1.8);
  w[7].fill_(-3);
  w[7][0] = -3.0001;
  return w;
}

TEST(OmniQuantLwc, DefaultGridsAreStorableAndTheirCodesGiveWhatTrainingSaw) {
  at::manual_seed(21);
  const Tensor w = hostile(64);
  for (const Scheme scheme : {Scheme::kAsymmetric, Scheme::kSymmetric, Scheme::kNoZeroPoint}) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const std::int64_t group : {16, -1}) {
        SCOPED_TRACE(cat("scheme ", static_cast<int>(scheme), " bits ", bits, " group ", group));
        const WeightQuant how{bits, group, scheme, Mode::kDefault};
        const Tensor r = at::randn({2, 9 * how.groups(64), 1}) * 2 + 1.5;
        const LwcParameters p{r[0], r[1]};
        const StoredLwc stored = lwc_quantized(w, p, how, /*scale_f16=*/false);
        EXPECT_EQ(stored.moved_groups, 0);
        quant::check_quantized_linear(stored.linear, "hostile");
        const auto w_hat = quant::dequantize(stored.linear);  // the scalar truth
        const Tensor seen = lwc_fake_quant(w, p, how).contiguous();
        for (std::size_t i = 0; i < w_hat.size(); ++i)
          ASSERT_EQ(w_hat[i], seen.const_data_ptr<float>()[i]) << i;
        // binary16 scales, and the codes that fit them.
        const quant::QuantizedLinear f16 = lwc_quantized(w, p, how, true).linear;
        const std::int64_t size = 64 / how.groups(64);
        for (std::int64_t i = 0; i < w.numel(); ++i) {
          const auto j = static_cast<std::size_t>(i / size);
          ASSERT_GT(f16.scales[j], 0);
          ASSERT_EQ(f16.scales[j], round_to_f16(f16.scales[j]));
          ASSERT_EQ(f16.codes[static_cast<std::size_t>(i)],
                    quant::quantize_one(w.const_data_ptr<float>()[i], f16.scales[j], f16.zero_points[j],
                                        (1 << bits) - 1));
        }
      }
    }
  }
}

TEST(OmniQuantLwc, ASearchedStartIsNearTheWeightsAndInReach) {
  at::manual_seed(5);
  const Tensor tails = at::randn({24, 128}).pow(3);  // long tails, which clipping gains from
  std::vector<float> energy(128);
  for (std::size_t i = 0; i < energy.size(); ++i) energy[i] = i % 7 == 0 ? 50.0f : 1.0f;
  const Tensor weights = at::tensor(at::ArrayRef<float>(energy));
  for (const auto& [bits, scheme] : {std::pair(2, Scheme::kAsymmetric), std::pair(3, Scheme::kAsymmetric),
                                     std::pair(4, Scheme::kAsymmetric), std::pair(3, Scheme::kNoZeroPoint)}) {
    const WeightQuant how{bits, 32, scheme, Mode::kDefault};
    const auto error = [&](const LwcParameters& start, const Tensor& by) {
      return ((lwc_fake_quant(tails, start, how) - tails).square() * by).sum().item<double>();
    };
    const LwcParameters plain = start_lwc(24, 128, how, at::kCPU), searched = search_lwc(tails, how, {}),
                        weighted = search_lwc(tails, how, energy);
    EXPECT_LT(error(searched, at::ones({128})), (bits == 2 ? 0.9 : 1.0) * error(plain, at::ones({128})))
        << bits;
    EXPECT_LT(error(weighted, weights), error(searched, weights)) << bits;
    for (const Tensor& logits : {searched.up, searched.low, weighted.up, weighted.low}) {
      EXPECT_EQ(logits.sizes(), (at::IntArrayRef{24 * 4, 1}));
      EXPECT_LE(logits.abs().max().item<float>(), 4) << "where the sigmoid still has a slope";
    }
  }
  // Groups of one sign or of zeros have a side without values, which nothing moves.
  Tensor odd = at::zeros({2, 32});
  odd[0] = at::rand({32}) + 1;
  const WeightQuant how{2, 32, Scheme::kAsymmetric, Mode::kDefault};
  const LwcParameters start = search_lwc(odd, how, {});
  EXPECT_TRUE(at::isfinite(start.up).logical_and(at::isfinite(start.low)).all().item<bool>());
  EXPECT_TRUE(at::equal(lwc_fake_quant(odd, start, how)[1], odd[1]));
}

TEST(OmniQuantLwc, AScaleThatIsNoNumberIsAnError) {
  Tensor w = at::ones({2, 4});
  w[1][2] = std::numeric_limits<float>::quiet_NaN();
  test::expect_error(ErrorKind::kNumerics, {"group 1", "expected a finite number"}, [&] {
    lwc_quantized(w, {}, {4, -1, Scheme::kAsymmetric, Mode::kDefault}, true);
  });
}

TEST(OmniQuantLet, HandCasesStartTruncationAndShift) {  // B7, B8, B9
  const model::ModelConfig c = test::small_config();
  at::manual_seed(22);
  nn::DecoderBlock block = test::random_block(c);
  const nn::RopeTable rope = nn::make_rope_table(c, 2, at::kCPU);
  calib::ActivationStore store(2, 2, c.hidden_size, {});
  store.write(0, at::randn({2, 2, c.hidden_size}));
  ActivationStatistics statistics = collect_activation_statistics(block, store, 1, rope, {}, at::kCPU);
  statistics.inputs[2].high[7] = 8;
  statistics.inputs[2].low[7] = -1;
  block.linear(LinearRole::kUp).weight.select(1, 7).fill_(-0.5);
  block.linear(LinearRole::kGate).weight.select(1, 7).fill_(2);
  for (const auto& [alpha, expected] : {std::pair(0.5, 4.0), std::pair(0.75, 5.656854)}) {
    LetSettings settings;
    settings.alpha = alpha;
    settings.mode = Mode::kParity;  // up alone
    const TransformSite mlp = transform_site(c, Site::kMlpInput, Tying::kExact);
    EXPECT_NEAR(start_let(block, {mlp}, statistics, settings).at(0).scale[7].item<double>(), expected, 1e-5);
    settings.mode = Mode::kDefault;  // the larger of gate and up
    EXPECT_NEAR(start_let(block, {mlp}, statistics, settings).at(0).scale[7].item<double>(),
                std::pow(8, alpha) / std::pow(2, 1 - alpha), 1e-5);
  }
  const auto truncated = [&](Mode mode) {
    LetParameters p{{transform_site(c, Site::kMlpInput, Tying::kExact),
                     matrix({0.5, 0.004, -0.004, 0, -3}).flatten(),
                     {}}};
    truncate_scales(p, mode);
    return p.at(0).scale;
  };
  EXPECT_TRUE(at::equal(truncated(Mode::kParity), matrix({0.5, 0.01, -0.01, 0, -3}).flatten()));
  EXPECT_TRUE(at::equal(truncated(Mode::kDefault), matrix({0.5, 0.01, -0.01, 0.01, -3}).flatten()));
}

// A block that hands its input on: the first norm's weight makes the linears' input of any channel.
TEST(OmniQuantLet, ShiftIsTheExponentialMeanOfTheWindowsMiddles) {
  model::ModelConfig c = test::small_config();
  at::manual_seed(23);
  const nn::DecoderBlock block = test::random_block(c);
  const nn::RopeTable rope = nn::make_rope_table(c, 6, at::kCPU);
  calib::ActivationStore store(3, 6, c.hidden_size, {});
  store.write(0, at::randn({3, 6, c.hidden_size}));
  Tensor expected;
  for (std::int64_t w = 0; w < 3; ++w) {
    const Tensor x = block.linear_inputs(store.read(w, 1), rope, {}).mlp_in,
                 middle = (x.amax({0}) + x.amin({0})) / 2;
    expected = w == 0 ? middle : 0.99 * expected + 0.01 * middle;
  }
  for (const std::int64_t batch : {1, 2, 3}) {
    const ActivationStatistics s = collect_activation_statistics(block, store, batch, rope, {}, at::kCPU);
    EXPECT_LT(worst(s.of(LinearRole::kGate).shift, expected), 1e-6) << batch;
  }
}

TEST(OmniQuantLet, RefusesShiftsAndPairsThatTheAuthorsDoNotHave) {
  LetSettings shift;
  shift.shift = true;
  model::ModelConfig opt = test::small_config(4, 4);
  opt.family = "opt";
  opt.norm = model::NormKind::kLayer;
  opt.mlp = model::MlpKind::kRelu;
  opt.positions = model::PositionKind::kLearned;
  test::expect_error(ErrorKind::kUnsupported, {"shift", "opt", "without biases"},
                     [&] { let_sites(opt, shift); });
  opt.attention_bias = opt.attention_output_bias = opt.mlp_bias = true;
  EXPECT_EQ(let_sites(opt, shift).size(), 4u);
  LetSettings products;
  products.up_down = true;
  test::expect_error(ErrorKind::kUnsupported, {"up_down", "opt", "ReLU"}, [&] { let_sites(opt, products); });
  test::expect_error(ErrorKind::kUnsupported, {"shift", "llama", "no bias"},
                     [&] { let_sites(test::small_config(), shift); });
  LetSettings both;
  both.mode = Mode::kParity;
  test::expect_error(ErrorKind::kUnsupported, {"v -> o", "key/value heads"},
                     [&] { let_sites(test::small_config(4, 2), both); });
  EXPECT_EQ(let_sites(test::small_config(4, 4), both).size(), 4u);
  both.up_down = true;
  test::expect_error(ErrorKind::kInvalidArgument, {"up_down", "parity"},
                     [&] { let_sites(test::small_config(4, 4), both); });
  LetSettings ours;
  ours.up_down = true;
  EXPECT_EQ(let_sites(test::small_config(4, 2), ours).size(), 5u);
}

TEST(OmniQuantSettings, NumbersOutOfRangeAreNamed) {
  const model::ModelConfig c = test::small_config();
  const auto refused = [&](std::string_view name, auto change) {
    Settings s;
    change(s);
    test::expect_error(ErrorKind::kInvalidArgument, {name, "expected"}, [&] { check_settings(s, c); });
  };
  check_settings({}, c);
  refused("weight_bits", [](Settings& s) { s.weight_bits = 9; });
  refused("activation_bits", [](Settings& s) { s.activation_bits = 12; });
  refused("kv_bits", [](Settings& s) { s.kv_bits = 1; });
  refused("batch", [](Settings& s) { s.batch = 0; });
  refused("group_size", [](Settings& s) { s.group_size = 32; });  // down_proj has 48 inputs
  refused("group_size", [](Settings& s) { s.group_size = 0; });
  refused("alpha", [](Settings& s) { s.alpha = 1.5; });
  Settings nothing;
  nothing.lwc = false;
  test::expect_error(ErrorKind::kInvalidArgument, {"nothing to train"}, [&] { check_settings(nothing, c); });
}

TEST(OmniQuantSettings, ParityKeepsTheAuthorsActivationGrid) {
  Settings s;
  s.activation_bits = 4;
  s.kv_bits = 8;
  EXPECT_TRUE(s.activations().query.holds_zero);
  s.mode = Mode::kParity;
  EXPECT_FALSE(s.activations().query.holds_zero);
  EXPECT_FALSE(s.activations().linear_inputs[3].holds_zero);
  EXPECT_EQ(s.activations().query.bits, 4);
  EXPECT_EQ(s.activations().value.bits, 8);
}

// A block with outlier channels, its streams, and what is trained on them.
struct Fixture {
  explicit Fixture(const model::ModelConfig& c)
      : config(c),
        block(test::random_block(c)),
        rope(nn::make_rope_table(c, kTokens, at::kCPU)),
        inputs(kWindows, kTokens, c.hidden_size, {}),
        targets(kWindows, kTokens, c.hidden_size, {}) {
    block.input_norm[3] = 6;
    block.post_attention_norm[9] = 6;
    const at::NoGradGuard no_grad;
    const Tensor x = at::randn({kWindows, kTokens, c.hidden_size});
    inputs.write(0, x);
    targets.write(0, block.forward(x, rope, {}));
    statistics = collect_activation_statistics(block, inputs, 4, rope, {}, at::kCPU);
  }
  BlockResult train(BlockParameters& parameters, const Settings& settings) {
    const TrainingData data{inputs, targets, &targets};
    return train_block(block, parameters, data, &data, rope, settings, 1, {}, at::kCPU, {});
  }
  double loss(const BlockParameters& parameters, const Settings& settings) {
    const at::NoGradGuard no_grad;
    return nn::mse_loss(
               quantized_block(block, parameters, settings).forward(inputs.read(0, kWindows), rope, {}),
               targets.read(0, kWindows), {})
        .item<double>();
  }
  static constexpr std::int64_t kWindows = 8, kTokens = 16;
  model::ModelConfig config;
  nn::DecoderBlock block;
  nn::RopeTable rope;
  calib::ActivationStore inputs, targets;
  ActivationStatistics statistics;
};

Settings w4a4() {
  Settings s;
  s.activation_bits = 4;
  s.kv_bits = 4;
  s.let = true;
  s.up_down = true;
  s.epochs = 4;
  s.batch = 2;
  return s;
}

TEST(OmniQuantTraining, LowersTheErrorInEveryStructureAndTheWeightsStay) {
  model::ModelConfig qwen2 = test::small_config(4, 2), qwen3 = test::small_config(4, 2);
  qwen2.family = "qwen2";
  qwen2.attention_bias = true;
  qwen3.family = "qwen3";
  qwen3.qk_norm = true;
  for (const model::ModelConfig& c : {test::small_config(4, 4), test::small_config(4, 2), qwen2, qwen3}) {
    SCOPED_TRACE(cat(c.family, " ", c.num_key_value_heads));
    at::manual_seed(31);
    Fixture f(c);
    const Tensor before = f.block.linear(LinearRole::kQ).weight.clone();
    Settings settings = w4a4();
    settings.weight_bits =
        3;  // at 4-bit activations a block of 32 channels moves by chance more than by training
    settings.activation_bits = settings.kv_bits = 8;
    settings.epochs = 10;
    settings.batch = 1;
    check_settings(settings, c);
    BlockParameters parameters = start_parameters(f.block, &f.statistics, settings);
    const double start = f.loss(parameters, settings);
    const BlockResult result = f.train(parameters, settings);
    EXPECT_TRUE(result.finite);
    EXPECT_EQ(result.steps.size(), 80u);
    EXPECT_NEAR(result.start_validation_loss / start, 1, 1e-5);
    EXPECT_LT(f.loss(parameters, settings), 0.9 * start);
    ASSERT_GE(result.best_epoch, 1);
    EXPECT_NEAR(f.loss(parameters, settings) /
                    result.epoch_validation_loss.at(static_cast<std::size_t>(result.best_epoch - 1)),
                1, 1e-5);
    EXPECT_TRUE(at::equal(f.block.linear(LinearRole::kQ).weight, before));
    for (const LetPair& pair : parameters.let) EXPECT_FALSE(pair.scale.requires_grad());
  }
}

TEST(OmniQuantTraining, ThePackedBlockComputesWhatTrainingSaw) {
  at::manual_seed(32);
  model::ModelConfig c = test::small_config(4, 2);
  Fixture f(c);
  Settings settings = w4a4();
  settings.group_size = 16;
  settings.epochs = 1;
  settings.kv_bits = 8;
  BlockParameters parameters = start_parameters(f.block, &f.statistics, settings);
  f.train(parameters, settings);
  const at::NoGradGuard no_grad;
  const Tensor x = f.inputs.read(0, 2),
               seen = quantized_block(f.block, parameters, settings).forward(x, f.rope, {});
  nn::DecoderBlock packed = f.block;
  fuse_transformation(packed, parameters, settings);
  EXPECT_EQ(packed.activations.key.bits, 8);
  EXPECT_EQ(packed.activations.query.bits, 4);
  const auto codes = quantize_fused(packed, parameters, settings, /*scale_f16=*/false);
  for (const LinearRole role : model::kLinearRoles)
    packed.linear(role).set_packed(codes[static_cast<std::size_t>(role)].linear, at::kCPU);
  const Tensor y = packed.forward(x, f.rope, {});
  // Another order of sums may flip an activation's code; most values are equal to rounding.
  EXPECT_LT((y - seen).abs().median().item<double>(), 1e-5);
  EXPECT_LT((y - seen).norm().item<double>() / seen.norm().item<double>(), 2e-2);
}

TEST(OmniQuantTraining, KeepsTheStartWhenTrainingOnlyHurts) {
  at::manual_seed(33);
  Fixture f(test::small_config(4, 2));
  Settings settings = w4a4();
  settings.lwc_lr = settings.let_lr = 30;
  BlockParameters parameters = start_parameters(f.block, &f.statistics, settings);
  const double start = f.loss(parameters, settings);
  const BlockResult result = f.train(parameters, settings);
  EXPECT_EQ(result.best_epoch, 0);
  EXPECT_NEAR(f.loss(parameters, settings) / start, 1, 1e-6);
  settings.keep_best = false;
  BlockParameters last = start_parameters(f.block, &f.statistics, settings);
  f.train(last, settings);
  EXPECT_GT(f.loss(last, settings), 1.5 * start);
}

TEST(OmniQuantTraining, ShufflesByItsSeedAndOnlyInTheDefaultMode) {
  at::manual_seed(34);
  Fixture f(test::small_config(4, 4));
  Settings settings;
  settings.weight_bits = 3;
  settings.epochs = 2;
  const auto losses = [&](Mode mode, std::uint64_t seed) {
    settings.mode = mode;
    settings.seed = seed;
    BlockParameters parameters = start_parameters(f.block, nullptr, settings);
    std::vector<double> all;
    for (const Step& step : f.train(parameters, settings).steps) all.push_back(step.loss);
    return all;
  };
  EXPECT_EQ(losses(Mode::kDefault, 2), losses(Mode::kDefault, 2));
  EXPECT_NE(losses(Mode::kDefault, 2), losses(Mode::kDefault, 3));
  EXPECT_EQ(losses(Mode::kParity, 2), losses(Mode::kParity, 3));
}

TEST(OmniQuantTraining, EveryStepSeesTruncatedFactors) {
  at::manual_seed(38);
  Fixture f(test::small_config(4, 2));
  Settings settings;
  settings.let = true;
  settings.epochs = 1;
  settings.shuffle = false;
  BlockParameters parameters = start_parameters(f.block, &f.statistics, settings);
  parameters.let.at(1).scale.fill_(0.0101);  // the first update carries half of them below 1e-2
  const TrainingData data{f.inputs, f.targets};
  double expected = 0;
  std::vector<double> losses;
  train_block(f.block, parameters, data, nullptr, f.rope, settings, 1, {}, at::kCPU,
              [&](std::int64_t k, const Step& step) {
                losses.push_back(step.loss);
                if (k != 0) return;
                const at::NoGradGuard no_grad;
                BlockParameters next = parameters;
                Tensor& scale = next.let.at(1).scale;
                EXPECT_LT(scale.min().item<double>(), 0.009);
                scale = scale.detach().clamp_min(0.01);
                expected =
                    nn::mse_loss(
                        quantized_block(f.block, next, settings).forward(f.inputs.read(1, 1), f.rope, {}),
                        f.targets.read(1, 1), {})
                        .item<double>();
              });
  EXPECT_NEAR(losses.at(1) / expected, 1, 1e-6);
  // So does what comes after the last step.
  settings.batch = Fixture::kWindows;
  parameters.let.at(1).scale.fill_(0.0101);
  EXPECT_EQ(f.train(parameters, settings).steps.size(), 1u);
  EXPECT_NEAR(parameters.let.at(1).scale.min().item<double>(), 0.01, 1e-6);
}

TEST(OmniQuantTraining, ALossThatIsNotFiniteStopsIt) {
  at::manual_seed(35);
  Fixture f(test::small_config(4, 2));
  Settings settings = w4a4();
  settings.keep_best = false;
  Tensor x = f.inputs.read(0, Fixture::kWindows).clone();
  x[2][0][0] = std::numeric_limits<float>::quiet_NaN();
  f.inputs.write(0, x);
  settings.shuffle = false;
  BlockParameters parameters = start_parameters(f.block, &f.statistics, settings);
  const BlockResult result = f.train(parameters, settings);
  EXPECT_FALSE(result.finite);
  EXPECT_EQ(result.steps.size(), 1u);  // windows 0 and 1; window 2 stops the second
  EXPECT_TRUE(result.epoch_train_loss.empty());
}

TEST(OmniQuantTraining, TheSecondTargetDoublesALossWhoseTargetsAreEqual) {
  at::manual_seed(36);
  Fixture f(test::small_config(4, 2));
  Settings settings = w4a4();
  settings.epochs = 1;
  BlockParameters one = start_parameters(f.block, &f.statistics, settings);
  const double plain = f.train(one, settings).steps.at(0).loss;
  settings.aug_loss = true;
  BlockParameters two = start_parameters(f.block, &f.statistics, settings);
  EXPECT_NEAR(f.train(two, settings).steps.at(0).loss / plain, 2, 1e-6);
}

TEST(OmniQuantTraining, ShiftsAreTrainedWhereAPairHasThem) {
  at::manual_seed(37);
  Fixture f(test::small_config(4, 2));
  Settings settings = w4a4();
  settings.epochs = 2;
  settings.keep_best = false;
  BlockParameters parameters = start_parameters(f.block, &f.statistics, settings);
  LetPair& pair = parameters.let.at(0);
  pair.shift = f.statistics.inputs[0].shift.clone();
  const Tensor start = pair.shift.clone();
  EXPECT_TRUE(f.train(parameters, settings).finite);
  EXPECT_GT(worst(parameters.let.at(0).shift, start), 1e-3);
}

}  // namespace
}  // namespace crumb::methods::omniquant
