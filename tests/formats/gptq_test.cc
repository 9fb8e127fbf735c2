#include "formats/gptq.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/half.h"
#include "base/rng.h"
#include "support/expect_error.h"

namespace crumb::formats {
namespace {

using quant::WordLayout;

quant::QuantizedLinear random_linear(std::int64_t n, std::int64_t k, quant::AffineSpec spec,
                                     int lowest_zero = 0) {
  SplitMix64 rng(17);
  quant::QuantizedLinear linear{n, k, spec, {}, {}, {}};
  const auto levels = static_cast<std::uint64_t>(spec.max_code() + 1);
  for (std::int64_t i = 0; i < n * k; ++i)
    linear.codes.push_back(static_cast<std::uint8_t>(rng.next() % levels));
  for (std::int64_t i = 0; i < n * spec.groups(k); ++i) {
    const std::uint64_t choices = levels - static_cast<std::uint64_t>(lowest_zero);
    linear.zero_points.push_back(
        static_cast<std::uint8_t>(static_cast<std::uint64_t>(lowest_zero) + rng.next() % choices));
    linear.scales.push_back(round_to_f16(static_cast<float>(rng.uniform() - 0.5)));
  }
  return linear;
}

TEST(PackGptq, RoundTripsEveryWidthLayoutAndZeroConvention) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {32, 96, -1}) {
      for (const WordLayout layout : {WordLayout::kDense, WordLayout::kPadded}) {
        for (const GptqZeros zeros : {GptqZeros::kV1, GptqZeros::kV2}) {
          const auto linear =
              random_linear(64, 96, {bits, group, quant::Grid::kAsym}, zeros == GptqZeros::kV1 ? 1 : 0);
          const auto back =
              unpack_gptq(pack_gptq(linear, layout, zeros), linear.spec, layout, zeros, "layer");
          EXPECT_EQ(back.codes, linear.codes) << bits << " " << group;
          EXPECT_EQ(back.zero_points, linear.zero_points);
          EXPECT_EQ(back.scales, linear.scales);
        }
      }
    }
  }
}

// One output, codes i mod 8: words worked out by hand from the 96-bit stream and from ten codes a word.
TEST(PackGptq, KeepsThreeBitLayoutsApart) {
  quant::QuantizedLinear linear{32, 32, {3, 32, quant::Grid::kAsym}, {}, {}, {}};
  for (int i = 0; i < 32 * 32; ++i) linear.codes.push_back(static_cast<std::uint8_t>(i % 8));
  linear.scales.assign(32, 1.0f);
  for (int i = 0; i < 32; ++i) linear.zero_points.push_back(static_cast<std::uint8_t>(1 + i % 7));
  const auto column = [](const GptqTensors& tensors) {
    std::vector<std::uint32_t> words;
    for (std::size_t i = 0; i < tensors.qweight.size(); i += 32) words.push_back(tensors.qweight[i]);
    return words;
  };
  EXPECT_EQ(column(pack_gptq(linear)), (std::vector<std::uint32_t>{0x88FAC688, 0xC688FAC6, 0xFAC688FA}));
  EXPECT_EQ(column(pack_gptq(linear, WordLayout::kPadded)),
            (std::vector<std::uint32_t>{0x08FAC688, 0x1A23EB1A, 0x2C688FAC, 0x3E}));
  EXPECT_EQ(pack_gptq(linear).qzeros, (std::vector<std::uint32_t>{0x1A3F58D1, 0xFD6347EB, 0x8D1FAC68}));
  EXPECT_EQ(pack_gptq(linear, WordLayout::kDense, GptqZeros::kV1).qzeros,
            (std::vector<std::uint32_t>{0xD11AC688, 0x6B1A2358, 0x688D6344}));
}

TEST(PackGptq, RefusesZeroPointZeroInV1) {
  auto linear = random_linear(32, 32, {4, 32, quant::Grid::kAsym}, 1);
  EXPECT_NO_THROW(pack_gptq(linear, WordLayout::kDense, GptqZeros::kV1));
  linear.zero_points[5] = 0;
  test::expect_error(ErrorKind::kInvalidArgument, {"v1", "zero point"},
                     [&] { pack_gptq(linear, WordLayout::kDense, GptqZeros::kV1); });
}

TEST(PackGptq, RefusesDenseShapesThatLeaveAWordPartlyFilled) {
  EXPECT_NO_THROW(check_gptq_shape(64, 96, 3));
  test::expect_error(ErrorKind::kInvalidArgument, {"K", "80", "32"}, [] { check_gptq_shape(64, 80, 3); });
  test::expect_error(ErrorKind::kInvalidArgument, {"N", "40", "16"}, [] { check_gptq_shape(40, 64, 2); });
}

TEST(UnpackGptq, ReadsAMissingGroupIndexAsPlainGroupsAndRefusesActOrder) {
  const auto linear = random_linear(32, 64, {2, 32, quant::Grid::kAsym});
  GptqTensors tensors = pack_gptq(linear);
  std::swap(tensors.g_idx[0], tensors.g_idx[63]);
  test::expect_error(ErrorKind::kUnsupported, {"layer", "g_idx[0]"},
                     [&] { unpack_gptq(tensors, linear.spec, WordLayout::kDense, GptqZeros::kV2, "layer"); });
  tensors.g_idx.clear();
  EXPECT_EQ(unpack_gptq(tensors, linear.spec, WordLayout::kDense, GptqZeros::kV2, "layer").codes,
            linear.codes);
}

TEST(UnpackGptq, RefusesSizesThatContradictTheConfiguration) {
  const auto linear = random_linear(32, 64, {4, 32, quant::Grid::kAsym});
  const GptqTensors tensors = pack_gptq(linear);
  const auto with = [&](quant::AffineSpec spec) {
    unpack_gptq(tensors, spec, WordLayout::kDense, GptqZeros::kV2, "layer");
  };
  test::expect_error(ErrorKind::kCorrupt, {"layer", "qweight"}, [&] { with({2, 32, quant::Grid::kAsym}); });
  test::expect_error(ErrorKind::kCorrupt, {"layer", "qzeros"}, [&] { with({4, 64, quant::Grid::kAsym}); });
}

TEST(UnpackGptq, RefusesAnOverflowedV1ZeroPoint) {
  const auto linear =
      random_linear(32, 32, {2, 32, quant::Grid::kAsym}, 3);  // all stored fields are 3 under v2
  test::expect_error(ErrorKind::kCorrupt, {"layer", "v1"}, [&] {
    unpack_gptq(pack_gptq(linear), linear.spec, WordLayout::kDense, GptqZeros::kV1, "layer");
  });
}

TEST(GptqTensorsToWrite, RefusesScalesThatBinary16CannotHold) {
  auto linear = random_linear(32, 32, {2, 32, quant::Grid::kAsym});
  EXPECT_EQ(gptq_tensors_to_write("layer", linear).size(), 4u);
  linear.scales[3] = 0.1f;
  test::expect_error(ErrorKind::kInvalidArgument, {"layer", "scale 3", "binary16"},
                     [&] { gptq_tensors_to_write("layer", linear); });
}

TEST(GptqTensorsToWrite, ProducesTheBytesThatTheEstimatePromises) {
  const auto linear = random_linear(64, 96, {3, 32, quant::Grid::kAsym});
  std::int64_t bytes = 0;
  for (const auto& tensor : gptq_tensors_to_write("layer", linear))
    bytes += static_cast<std::int64_t>(tensor.produce().size());
  EXPECT_EQ(bytes, gptq_bytes(64, 96, linear.spec));
}

TEST(GptqReader, ReadsBackItsOwnConfiguration) {
  const quant::AffineSpec spec{2, 64, quant::Grid::kSignedSym};
  const GptqConfig config = parse_gptq_config(
      gptq_quantization_config({.spec = spec, .head_bits = 4, .others = {}}), "config.json");
  EXPECT_EQ(config.spec.bits, 2);
  EXPECT_EQ(config.spec.group_size, 64);
  EXPECT_EQ(config.spec.grid, quant::Grid::kSignedSym);
  EXPECT_EQ(config.zeros, GptqZeros::kV2);
  EXPECT_EQ(config.head_bits, 4);
}

TEST(GptqReader, ReadsBackHowActivationsAreRounded) {
  const auto back = [](const std::optional<quant::ActivationScheme>& scheme) {
    return parse_gptq_config(gptq_quantization_config({.spec = {8, -1, quant::Grid::kAsym},
                                                       .head_bits = 8,
                                                       .activations = scheme,
                                                       .others = {}}),
                             "config.json")
        .activations;
  };
  EXPECT_EQ(back({}), std::nullopt);
  for (const quant::ActivationScheme& scheme :
       {quant::ActivationScheme{8, 16, true}, quant::ActivationScheme{4, 4, false},
        quant::ActivationScheme{16, 8, true}, quant::ActivationScheme{}})
    EXPECT_EQ(back(scheme), scheme);
  nlohmann::ordered_json config =
      gptq_quantization_config({.spec = {4, 32, quant::Grid::kAsym},
                                .head_bits = 8,
                                .activations = quant::ActivationScheme{8, 8, true},
                                .others = {}});
  const auto with = [&](const char* key, const nlohmann::ordered_json& value) {
    nlohmann::ordered_json changed = config;
    changed["meta"]["activations"][key] = value;
    return parse_gptq_config(changed, "config.json");
  };
  EXPECT_EQ(with("bits", 6).activations->bits, 6);
  test::expect_error(ErrorKind::kUnsupported, {"activations.bits", "9", "2 to 8"}, [&] { with("bits", 9); });
  test::expect_error(ErrorKind::kUnsupported, {"activations.kv_bits", "1"}, [&] { with("kv_bits", 1); });
  test::expect_error(ErrorKind::kCorrupt, {"kv_bits"}, [&] { with("kv_bits", nullptr); });
  test::expect_error(ErrorKind::kCorrupt, {"symmetric"}, [&] { with("symmetric", nullptr); });
  test::expect_error(ErrorKind::kCorrupt, {"symmetric"}, [&] { with("symmetric", 1); });
  config["meta"]["activations"] = "a8";
  test::expect_error(ErrorKind::kCorrupt, {"activations"}, [&] { parse_gptq_config(config, "config.json"); });
}

TEST(GptqReader, RejectsAmbiguousZeros) {
  const nlohmann::ordered_json config = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}};
  test::expect_error(ErrorKind::kCorrupt, {"checkpoint_format", "gptq_v2"},
                     [&] { parse_gptq_config(config, "config.json"); });
}

TEST(GptqReader, RejectsWhatItWouldReadWrongly) {
  const nlohmann::ordered_json good =
      gptq_quantization_config({.spec = {4, 32, quant::Grid::kAsym}, .head_bits = 8, .others = {}});
  const auto with = [&](const char* key, const nlohmann::ordered_json& value) {
    nlohmann::ordered_json changed = good;
    changed[key] = value;
    return parse_gptq_config(changed, "config.json");
  };
  EXPECT_NO_THROW(with("bits", 4));
  EXPECT_TRUE(with("desc_act", true).act_order);
  EXPECT_TRUE(with("dynamic", {{".*", {{"desc_act", true}}}}).act_order);
  EXPECT_FALSE(with("bits", 8).act_order);
  test::expect_error(ErrorKind::kUnsupported, {"awq"}, [&] { with("quant_method", "awq"); });
  test::expect_error(ErrorKind::kUnsupported, {"bits", "5"}, [&] {
    with("dynamic", {{"+:.*", {{"bits", 5}}}});
  });
  test::expect_error(ErrorKind::kCorrupt, {"(down", "does not compile"}, [&] {
    with("dynamic", {{"-:(down", nlohmann::ordered_json::object()}});
  });
  test::expect_error(ErrorKind::kCorrupt, {"dynamic"}, [&] { with("dynamic", 3); });
  test::expect_error(ErrorKind::kUnsupported, {"bits", "5"}, [&] { with("bits", 5); });
  test::expect_error(ErrorKind::kUnsupported, {"head_bits", "5"}, [&] { with("meta", {{"head_bits", 5}}); });
  test::expect_error(ErrorKind::kCorrupt, {"group_size"}, [&] { with("group_size", 0); });
}

}  // namespace
}  // namespace crumb::formats
