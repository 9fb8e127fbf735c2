// Packing against hand-made bytes and against the reader, which another implementation has checked.
#include "formats/gguf_pack.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/rng.h"
#include "formats/gguf_blocks.h"
#include "quant/affine.h"
#include "support/expect_error.h"

namespace crumb::formats {
namespace {

using Bytes = std::vector<std::byte>;
using quant::QuantizedLinear;
using test::expect_error;

std::string hex(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte b : bytes) {
    out += "0123456789abcdef"[std::to_integer<int>(b) >> 4];
    out += "0123456789abcdef"[std::to_integer<int>(b) & 15];
  }
  return out;
}

std::string repeat(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

/// One group of `k` weights with scale 0.5.
QuantizedLinear one_group(int bits, std::int64_t k, int zero_point, const std::function<int(int)>& code) {
  QuantizedLinear linear{1,  k,     {bits, k, quant::Grid::kAsym},
                         {}, {.5f}, {static_cast<std::uint8_t>(zero_point)}};
  for (int i = 0; i < k; ++i) linear.codes.push_back(static_cast<std::uint8_t>(code(i)));
  return linear;
}

std::string packed(const QuantizedLinear& linear, std::string_view type) {
  return hex(pack_gguf(linear, *find_gguf_type(type), "w"));
}

int c32(int i) {
  return (7 * i + 3 + i / 16) % 16;
}

TEST(PackGguf, SmallBlocksAreTheHandMadeBytes) {
  EXPECT_EQ(packed(one_group(4, 32, 8, c32), "Q4_0"), "003843ba21980f76ed54cb32a91087fe65dc");
  EXPECT_EQ(packed(one_group(4, 32, 3, c32), "Q4_1"), "003800be43ba21980f76ed54cb32a91087fe65dc");
  EXPECT_EQ(packed(one_group(4, 32, 11, c32), "Q5_0"), "003850a142a1980f76ed54cb32a91087fe65dc43ba21");
  EXPECT_EQ(packed(one_group(3, 32, 5, [](int i) { return (5 * i + 1 + i / 16) % 8; }), "Q4_0"),
            "003854a9764398653a8754a9764398653a87");
  const auto two = [](int i) { return (3 * i + i / 16) % 4; };
  EXPECT_EQ(packed(one_group(2, 64, 1, two), "Q2_0"), "00386c6c6c6cb1b1b1b1c6c6c6c61b1b1b1b");
  EXPECT_EQ(packed(one_group(2, 64, 2, two), "Q2_0"), "00b8939393934e4e4e4e39393939e4e4e4e4");
  std::string q8 = "0038";
  for (int i = -16; i < 16; ++i) q8 += hex(Bytes{static_cast<std::byte>(i)});
  EXPECT_EQ(packed(one_group(8, 32, 128, [](int i) { return i + 112; }), "Q8_0"), q8);
}

// Scales of sub-blocks that no search would choose, so the layout is tested by itself.
TEST(PutBlock, KQuantsAreTheHandMadeBytes) {
  std::array<std::uint8_t, 256> codes;
  std::array<int, 16> sc, mn;
  const auto fill = [&](int modulus) {
    for (int i = 0; i < 256; ++i)
      codes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>((i + i / 32) % modulus);
  };
  for (int j = 0; j < 16; ++j) {
    sc[static_cast<std::size_t>(j)] = j;
    mn[static_cast<std::size_t>(j)] = 15 - j;
  }
  std::array<std::byte, 144> block;
  fill(4);
  put_q2_k(codes.data(), sc.data(), mn.data(), .5f, .25f, block.data());
  EXPECT_EQ(hex(std::span(block).first(84)),
            "f0e1d2c3b4a5968778695a4b3c2d1e0f" + repeat("e4394e93", 16) + "00380034");
  fill(8);
  for (int& scale : sc) scale -= 8;
  put_q3_k(codes.data(), sc.data(), .5f, block.data());
  EXPECT_EQ(hex(std::span(block).first(110)),
            repeat("f0783c1e0f87c3e1", 4) + repeat("e4394e93", 16) + "08192a3b4c5d6e7fa5a5a5a5" + "0038");
  fill(16);
  const int scales[] = {1, 2, 3, 4, 33, 34, 35, 36}, mins[] = {5, 6, 7, 8, 49, 50, 51, 52};
  put_q4_k(codes.data(), scales, mins, .5f, .25f, block.data());
  EXPECT_EQ(hex(std::span(block).first(24)), "0038003481828384c5c6c7c8112233441021324354657687");
}

// Random codes that use the whole range of every group.
QuantizedLinear random_linear(int bits, std::int64_t n, std::int64_t k, std::int64_t group, int lowest_zero,
                              int highest_zero, std::uint64_t seed = 1) {
  SplitMix64 random(seed);
  QuantizedLinear linear{n, k, {bits, group, quant::Grid::kAsym}, {}, {}, {}};
  for (std::int64_t i = 0; i < n * k; ++i)
    linear.codes.push_back(static_cast<std::uint8_t>(random.next() % (1u << bits)));
  for (std::int64_t i = 0; i < n * linear.spec.groups(k); ++i) {
    linear.scales.push_back(round_to_f16(static_cast<float>(0.002 + 0.05 * random.uniform())) *
                            (random.next() % 4 == 0 ? -1.0f : 1.0f));
    linear.zero_points.push_back(static_cast<std::uint8_t>(
        lowest_zero +
        static_cast<int>(random.next() % static_cast<unsigned>(highest_zero - lowest_zero + 1))));
  }
  return linear;
}

std::vector<float> read_back(const QuantizedLinear& linear, std::string_view type) {
  const Bytes bytes = pack_gguf(linear, *find_gguf_type(type), "w");
  std::vector<float> values(linear.codes.size());
  dequantize_gguf(*find_gguf_type(type), bytes, values);
  return values;
}

double relative_error(const QuantizedLinear& linear, std::string_view type) {
  const std::vector<float> w = quant::dequantize(linear), stored = read_back(linear, type);
  double error = 0, energy = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    error += std::pow(static_cast<double>(w[i]) - stored[i], 2);
    energy += std::pow(static_cast<double>(w[i]), 2);
  }
  return std::sqrt(error / energy);
}

struct ExactCase {
  int bits;
  std::int64_t k, group;
  int lowest_zero, highest_zero;
  std::string_view type;
};

// The decision table of docs/formats/gguf.md, with scales of either sign.
constexpr ExactCase kExact[] = {
    {2, 576, 64, 1, 2, "Q2_0"},  {2, 256, 128, 1, 2, "Q2_0"}, {2, 512, -1, 1, 2, "Q2_0"},
    {2, 576, 64, 0, 3, "Q4_0"},  {2, 512, 64, 0, 3, "Q4_0"},  {2, 512, 256, 0, 3, "Q2_K"},
    {2, 512, 32, 1, 2, "Q4_0"},  {3, 576, 64, 0, 7, "Q4_0"},  {3, 512, 256, 3, 4, "Q3_K"},
    {3, 512, 256, 0, 7, "Q4_0"}, {3, 512, 32, 3, 4, "Q4_0"},  {4, 576, 64, 7, 8, "Q4_0"},
    {4, 576, 64, 0, 15, "Q5_0"}, {4, 576, 64, 8, 8, "Q4_0"},  {4, 512, 256, 0, 15, "Q4_K"},
    {4, 512, 128, 1, 2, "Q4_1"}, {4, 512, 128, 3, 5, "Q5_0"}, {8, 576, 32, 127, 128, "Q8_0"},
    {2, 48, 16, 1, 2, "F16"},
};

TEST(ChooseGgufType, TakesTheSmallestExactTypeAndItIsExact) {
  for (const ExactCase& c : kExact) {
    SCOPED_TRACE(std::string(c.type) + " for bits " + std::to_string(c.bits) + " k " + std::to_string(c.k) +
                 " group " + std::to_string(c.group) + " zero points " + std::to_string(c.lowest_zero) +
                 " to " + std::to_string(c.highest_zero));
    const QuantizedLinear linear = random_linear(c.bits, 12, c.k, c.group, c.lowest_zero, c.highest_zero);
    const GgufFit fit = choose_gguf_type(linear);
    ASSERT_NE(fit.type, nullptr) << fit.reason;
    EXPECT_EQ(fit.type->name, c.type) << fit.reason;
    EXPECT_EQ(fit.hold, GgufHold::kExactly);
    const bool smallest = c.type == (c.bits == 2   ? "Q2_0"
                                     : c.bits == 3 ? "Q3_K"
                                     : c.bits == 4 ? "Q4_0"
                                                   : "Q8_0");
    EXPECT_EQ(fit.reason.empty(), smallest) << fit.reason;
    const std::vector<float> w = quant::dequantize(linear);
    EXPECT_EQ(read_back(linear, c.type), w);  // -0 equals 0
    QuantizedLinear other = linear;
    other.codes[7] ^= 1;
    EXPECT_NE(read_back(other, c.type), w);  // negative control
  }
}

TEST(ChooseGgufType, CodesThatHappenToFitCount) {
  // No code of a group with zero point 0 is 3: values 0 … 2.
  QuantizedLinear linear = random_linear(2, 2, 128, 64, 0, 0);
  for (std::uint8_t& code : linear.codes) code = code == 3 ? 2 : code;
  EXPECT_EQ(choose_gguf_type(linear).type->name, "Q2_0");
  EXPECT_EQ(read_back(linear, "Q2_0"), quant::dequantize(linear));
  linear.codes[200] = 3;
  const GgufFit fit = choose_gguf_type(linear);
  EXPECT_EQ(fit.type->name, "Q4_0");
  for (const std::string_view part :
       {"Q2_0", "zero point 0", "-1 to 2", "1 of 4 blocks", "row 1", "column 64"})
    EXPECT_NE(fit.reason.find(part), std::string::npos) << fit.reason;
}

// A GGUF Q2_0 tensor is read as groups of 32 of which two share a scale; it goes back into Q2_0.
TEST(ChooseGgufType, TwoGroupsOfABlockMayShareAScale) {
  QuantizedLinear linear = random_linear(2, 3, 128, 32, 1, 1);
  for (std::size_t i = 0; i < linear.scales.size(); i += 2) {
    linear.scales[i] = std::abs(linear.scales[i]);
    linear.scales[i + 1] = i % 4 == 0 ? linear.scales[i] : -linear.scales[i];
    linear.zero_points[i + 1] = i % 4 == 0 ? 1 : 2;  // of either sign
  }
  EXPECT_EQ(choose_gguf_type(linear).type->name, "Q2_0");
  EXPECT_EQ(read_back(linear, "Q2_0"), quant::dequantize(linear));
  linear.scales[3] *= 2;
  const GgufFit fit = choose_gguf_type(linear);
  EXPECT_EQ(fit.type->name, "Q4_0");
  EXPECT_NE(fit.reason.find("different scales"), std::string::npos) << fit.reason;
}

TEST(ChooseGgufType, NearlyTakesTheSmallestAndItsErrorIsSmall) {
  struct NearCase {
    int bits;
    std::int64_t k, group;
    int lowest_zero, highest_zero;
    std::string_view type;
    double least, most;  // of the relative error
  };
  // Scales here spread over a factor of 26, wider than those of trained models.
  constexpr NearCase cases[] = {
      {2, 512, 64, 0, 3, "Q2_K", 1e-3, 4e-2},   {2, 512, 128, 0, 3, "Q2_K", 1e-3, 2e-2},
      {3, 512, 64, 3, 4, "Q3_K", 1e-4, 8e-3},   {3, 512, 128, 3, 4, "Q3_K", 1e-4, 4e-3},
      {4, 512, 64, 0, 15, "Q4_K", 1e-4, 8e-3},  {4, 576, 64, 0, 15, "Q4_1", 1e-6, 1e-3},
      {4, 512, 128, 0, 15, "Q4_K", 1e-4, 4e-3}, {4, 512, 32, 0, 15, "Q4_K", 1e-4, 1e-2},
  };
  for (const NearCase& c : cases) {
    SCOPED_TRACE(std::string(c.type) + " group " + std::to_string(c.group));
    const QuantizedLinear linear = random_linear(c.bits, 32, c.k, c.group, c.lowest_zero, c.highest_zero);
    const GgufFit fit = choose_gguf_type(linear, true);
    ASSERT_NE(fit.type, nullptr);
    EXPECT_EQ(fit.type->name, c.type);
    EXPECT_EQ(fit.hold, GgufHold::kNearly);
    EXPECT_FALSE(fit.reason.empty());
    const double error = relative_error(linear, c.type);
    EXPECT_GT(error, c.least);
    EXPECT_LT(error, c.most);
    EXPECT_LT(gguf_tensor_bytes(*fit.type, c.k, 1),
              gguf_tensor_bytes(*choose_gguf_type(linear).type, c.k, 1));
  }
}

TEST(ChooseGgufType, AFewBlocksOfQ2_0MayBeRoundedAnew) {
  // 20 groups of each zero point 0 and 3 among 640, all other groups at 1 and 2.
  QuantizedLinear linear = random_linear(2, 64, 640, 64, 1, 2);
  for (std::size_t i = 0; i < linear.zero_points.size(); i += 32) linear.zero_points[i] = i % 64 == 0 ? 0 : 3;
  const GgufFit fit = choose_gguf_type(linear, true);
  ASSERT_EQ(fit.type->name, "Q2_0") << fit.reason;
  EXPECT_EQ(fit.hold, GgufHold::kNearly);
  EXPECT_NE(fit.reason.find("20 of 640"), std::string::npos) << fit.reason;
  EXPECT_EQ(choose_gguf_type(linear).type->name, "Q4_0");
  const std::vector<float> w = quant::dequantize(linear), stored = read_back(linear, "Q2_0");
  for (std::size_t i = 0; i < linear.zero_points.size(); ++i) {
    double error = 0, energy = 0, cut = 0;  // cut: the codes -1 … 2 that are nearest, with the scale as it is
    for (std::size_t j = 64 * i; j < 64 * i + 64; ++j) {
      const double value = static_cast<double>(w[j]), scale = static_cast<double>(linear.scales[i]);
      error += std::pow(value - static_cast<double>(stored[j]), 2);
      energy += value * value;
      const double sign = linear.zero_points[i] == 3 ? -1 : 1;
      cut += std::pow(value - sign * scale * std::clamp(sign * value / scale, -1.0, 2.0), 2);
    }
    if (i % 32 != 0) {
      EXPECT_EQ(error, 0) << i;
    } else {
      EXPECT_GT(error, 0) << i;
      EXPECT_LT(error, 0.8 * cut) << i;
      EXPECT_LT(error, 0.06 * energy) << i;
    }
  }
  // One block in ten at most: 2-bit groups of any zero point go elsewhere.
  EXPECT_EQ(choose_gguf_type(random_linear(2, 4, 256, 64, 0, 3), true).type->name, "Q2_K");
}

// The scale search is no worse than d = largest scale / 63, dmin = largest offset / 63, the obvious choice.
TEST(PackGguf, TheSearchBeatsTheObviousScales) {
  const QuantizedLinear linear = random_linear(4, 16, 256, 64, 0, 15, 3);
  double obvious = 0, energy = 0;
  const std::vector<float> w = quant::dequantize(linear);
  for (std::size_t row = 0; row < 16; ++row) {
    float scale = 0, offset = 0;
    std::array<float, 4> scales, offsets;
    for (std::size_t g = 0; g < 4; ++g) {
      const float s = linear.scales[4 * row + g];
      const int z = linear.zero_points[4 * row + g];
      scales[g] = std::abs(s);
      offsets[g] = std::abs(s) * static_cast<float>(s < 0 ? 15 - z : z);
      scale = std::max(scale, scales[g]);
      offset = std::max(offset, offsets[g]);
    }
    const float d = round_to_f16(scale / 63), dmin = round_to_f16(offset / 63);
    for (std::size_t i = 0; i < 256; ++i) {
      const std::size_t g = i / 64;
      const int stored = linear.codes[256 * row + i];
      const int code = linear.scales[4 * row + g] < 0 ? 15 - stored : stored;
      const float value = d * std::nearbyint(scales[g] / d) * static_cast<float>(code) -
                          dmin * std::nearbyint(offsets[g] / dmin);
      obvious += std::pow(static_cast<double>(value) - w[256 * row + i], 2);
      energy += std::pow(static_cast<double>(w[256 * row + i]), 2);
    }
  }
  EXPECT_LT(relative_error(linear, "Q4_K"), 0.8 * std::sqrt(obvious / energy));
}

TEST(PackGguf, RoundsScalesThatAreNoBinary16OnlyWhereAsked) {
  QuantizedLinear linear = random_linear(2, 4, 64, 64, 1, 2);
  linear.scales[2] = 0.1f;
  const GgufFit exact = choose_gguf_type(linear), near = choose_gguf_type(linear, true);
  EXPECT_EQ(exact.type, nullptr);
  EXPECT_NE(exact.reason.find("0.1"), std::string::npos) << exact.reason;
  EXPECT_NE(exact.reason.find("row 2"), std::string::npos) << exact.reason;
  EXPECT_EQ(near.type->name, "Q2_0");
  EXPECT_EQ(near.hold, GgufHold::kNearly);
  EXPECT_LT(relative_error(linear, "Q2_0"), 0x1p-11);
  linear.scales[2] = 1e5f;
  EXPECT_EQ(choose_gguf_type(linear, true).type, nullptr);
  expect_error(ErrorKind::kUnsupported, {"q_proj", "Q2_0", "100000", "65504"},
               [&] { pack_gguf(linear, *find_gguf_type("Q2_0"), "q_proj"); });
}

TEST(PackGguf, RefusesWhatDoesNotFit) {
  const auto refuse = [](const QuantizedLinear& linear, std::string_view type,
                         std::initializer_list<std::string_view> parts) {
    expect_error(ErrorKind::kUnsupported, parts, [&] { pack_gguf(linear, *find_gguf_type(type), "x_proj"); });
  };
  refuse(random_linear(2, 2, 96, 32, 1, 2), "Q2_0", {"x_proj", "Q2_0", "96", "64"});
  refuse(random_linear(2, 2, 64, 64, 0, 3), "Q2_0", {"x_proj", "Q2_0", "zero point"});
  refuse(random_linear(4, 2, 64, 64, 0, 15), "Q4_0", {"x_proj", "Q4_0", "-8 to 7"});
  refuse(random_linear(4, 2, 256, 256, 0, 15), "Q2_K", {"x_proj", "4 bits", "2"});
  refuse(random_linear(4, 2, 64, 16, 8, 8), "Q4_1", {"x_proj", "groups of 16"});
  refuse(random_linear(4, 2, 256, 16, 8, 8), "Q4_K", {"x_proj", "groups of 16", "32"});
  refuse(random_linear(2, 2, 64, 64, 1, 2), "Q6_K", {"x_proj", "Q6_K"});
  QuantizedLinear damaged = random_linear(2, 2, 64, 64, 1, 2);
  damaged.codes[3] = 4;
  expect_error(ErrorKind::kCorrupt, {"x_proj"},
               [&] { pack_gguf(damaged, *find_gguf_type("Q2_0"), "x_proj"); });
  damaged.codes.pop_back();
  expect_error(ErrorKind::kCorrupt, {"x_proj"},
               [&] { pack_gguf(damaged, *find_gguf_type("Q2_0"), "x_proj"); });
}

TEST(PackGgufFloats, KeepsOrRoundsAndRefusesWhatPassesTheRange) {
  SplitMix64 random(4);
  std::vector<float> values(128);
  for (float& v : values) v = static_cast<float>(random.uniform() - .5);
  values[40] = 0;
  std::fill(values.begin() + 96, values.end(), 0.0f);
  for (const std::string_view name : {"F32", "F16", "BF16", "Q8_0"}) {
    const GgufType& type = *find_gguf_type(name);
    std::vector<float> read(values.size());
    dequantize_gguf(type, pack_gguf_floats(values, 64, type, "e"), read);
    const double step = name == "F32"    ? 0
                        : name == "F16"  ? 0x1p-12
                        : name == "BF16" ? 0x1p-9
                                         : .5 / 127 / 2 * 1.01;
    double largest = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      largest = std::max(largest, std::abs(static_cast<double>(values[i]) - read[i]));
    EXPECT_LE(largest, step) << name;
    EXPECT_GE(largest, step / 4) << name;
    EXPECT_EQ(read[40], 0.0f);
    EXPECT_EQ(read[127], 0.0f);
  }
  values[77] = 7e4f;
  expect_error(ErrorKind::kNumerics, {"e", "77", "70000", "F16"},
               [&] { pack_gguf_floats(values, 64, *find_gguf_type("F16"), "e"); });
  EXPECT_NO_THROW(pack_gguf_floats(values, 64, *find_gguf_type("BF16"), "e"));
  values[77] = 1e7f;
  expect_error(ErrorKind::kNumerics, {"e", "Q8_0"},
               [&] { pack_gguf_floats(values, 64, *find_gguf_type("Q8_0"), "e"); });
  expect_error(ErrorKind::kCorrupt, {"Q8_0", "16"},
               [&] { pack_gguf_floats(std::span(values).first(16), 16, *find_gguf_type("Q8_0"), "e"); });
  expect_error(ErrorKind::kInvalidArgument, {"e", "Q4_0"},
               [&] { pack_gguf_floats(values, 64, *find_gguf_type("Q4_0"), "e"); });
}

}  // namespace
}  // namespace crumb::formats
