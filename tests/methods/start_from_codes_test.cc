// Block-AP's start from codes that another method chose.
#include <gtest/gtest.h>

#include <cmath>

#include "base/half.h"
#include "base/rng.h"
#include "methods/initialize.h"
#include "methods/random_block.h"

namespace crumb::methods {
namespace {

using model::LinearRole;

// Codes that no rounding of the block's weights would give: any, with any zero point.
LinearCodes random_codes(const nn::DecoderBlock& block, const quant::AffineSpec& spec) {
  SplitMix64 random(11);
  LinearCodes codes;
  for (const LinearRole role : model::kLinearRoles) {
    const nn::QuantLinear& linear = block.linear(role);
    quant::QuantizedLinear& out = codes[static_cast<std::size_t>(role)];
    out = {linear.n, linear.k, spec, {}, {}, {}};
    const auto levels = static_cast<std::uint64_t>(spec.max_code()) + 1;
    for (std::int64_t i = 0; i < linear.n * linear.k; ++i)
      out.codes.push_back(static_cast<std::uint8_t>(random.next() % levels));
    for (std::int64_t i = 0; i < linear.n * spec.groups(linear.k); ++i) {
      out.scales.push_back(round_to_f16(static_cast<float>(0.002 + 0.3 * random.uniform())));
      out.zero_points.push_back(static_cast<std::uint8_t>(random.next() % levels));
    }
  }
  return codes;
}

TEST(StartFromCodes, RoundsToTheVeryCodes) {
  for (const int bits : {2, 3, 4, 6, 8}) {
    nn::DecoderBlock block = test::random_block(test::small_config());
    const LinearCodes codes = random_codes(block, {bits, 16, quant::Grid::kAsym});
    start_from_codes(block, codes);
    for (const LinearRole role : model::kLinearRoles) {
      const quant::QuantizedLinear found = block.linear(role).quantized(/*scale_f16=*/true);
      const quant::QuantizedLinear& wanted = codes[static_cast<std::size_t>(role)];
      EXPECT_EQ(found.codes, wanted.codes) << bits << " bits, " << model::hf_name(role);
      EXPECT_EQ(found.scales, wanted.scales) << bits;
      EXPECT_EQ(found.zero_points, wanted.zero_points) << bits;
    }
  }
}

// One group of four 2-bit weights, scale 1, zero point 1: code c stands for c - 1.
TEST(StartFromCodes, KeepsWeightsThatRoundToTheirCodeAndMovesTheOthersToTheEdge) {
  model::ModelConfig config = test::small_config();
  nn::DecoderBlock block = test::random_block(config);
  LinearCodes codes = random_codes(block, {2, 4, quant::Grid::kAsym});
  quant::QuantizedLinear& q = codes[static_cast<std::size_t>(LinearRole::kQ)];
  q.scales[0] = 1;
  q.zero_points[0] = 1;
  const std::uint8_t code[] = {0, 1, 2, 3};
  const float weight[] = {-7.0f, 0.3f, 0.2f, 9.0f};  // 0 and 3 have no outer end; 0.2 would round to code 1
  for (int i = 0; i < 4; ++i) {
    q.codes[static_cast<std::size_t>(i)] = code[i];
    block.linear(LinearRole::kQ).weight.mutable_data_ptr<float>()[i] = weight[i];
  }
  start_from_codes(block, codes);
  const float* found = block.linear(LinearRole::kQ).weight.const_data_ptr<float>();
  EXPECT_EQ(found[0], -7.0f);
  EXPECT_EQ(found[1], 0.3f);
  EXPECT_FLOAT_EQ(found[2], 0.51f);
  EXPECT_EQ(found[3], 9.0f);
}

TEST(StartFromCodes, ClampsScalesThatTrainingCannotHold) {
  nn::DecoderBlock block = test::random_block(test::small_config());
  LinearCodes codes = random_codes(block, {4, 16, quant::Grid::kAsym});
  codes[0].scales[0] = 0x1p-14f;  // below quant::kMinScale
  start_from_codes(block, codes);
  EXPECT_EQ(block.linear(LinearRole::kQ).quantized(true).codes, codes[0].codes);
}

}  // namespace
}  // namespace crumb::methods
