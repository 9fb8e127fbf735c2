// What a configuration says about the activations of its model.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/gptq.h"
#include "formats/grid_exports.h"
#include "support/expect_error.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;

ordered_json config(const std::optional<quant::ActivationScheme>& activations, int weight_bits = 0) {
  return gptq_quantization_config({.spec = {4, 64, quant::Grid::kAsym},
                                   .head_bits = 8,
                                   .activations = activations,
                                   .weight_bits = weight_bits,
                                   .others = {}});
}

TEST(ActivationBitsRecord, ComesBackAsItWasWritten) {
  for (const quant::ActivationScheme& bits : {quant::ActivationScheme{4, 4, false},
                                              {8, 16, true},
                                              {16, 2, false},
                                              {8, 16, true, quant::Granularity::kPerTensor},
                                              {6, 8, false, quant::Granularity::kPerChannel}}) {
    const auto found = parse_gptq_config(config(bits), "config.json").activations;
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(*found, bits);
  }
  EXPECT_FALSE(parse_gptq_config(config(std::nullopt), "config.json").activations.has_value());
  EXPECT_FALSE(config(std::nullopt)["meta"].contains("weight_bits"));
  EXPECT_EQ(config(std::nullopt, 3)["meta"]["weight_bits"], 3);
  EXPECT_EQ(parse_gptq_config(config(std::nullopt, 3), "config.json").weight_bits, 3);
  EXPECT_EQ(parse_gptq_config(config(std::nullopt, 4), "config.json").weight_bits, 0)
      << "the field's own bits";
  ordered_json older = config(quant::ActivationScheme{8, 8, true});
  older["meta"]["activations"].erase("granularity");
  EXPECT_EQ(*parse_gptq_config(older, "config.json").activations, (quant::ActivationScheme{8, 8, true}));
}

TEST(ActivationBitsRecord, OfUnknownBitsIsRefused) {
  for (const int bits : {1, 9, 32}) {
    ordered_json json = config(quant::ActivationScheme{4, 4, false});
    json["meta"]["activations"]["kv_bits"] = bits;
    test::expect_error(ErrorKind::kUnsupported, {"config.json", "meta.activations.kv_bits"},
                       [&] { parse_gptq_config(json, "config.json"); });
  }
  ordered_json rows = config(quant::ActivationScheme{4, 4, false});
  rows["meta"]["activations"]["granularity"] = "per_row";
  test::expect_error(ErrorKind::kUnsupported, {"granularity 'per_row'", "per_channel"},
                     [&] { parse_gptq_config(rows, "config.json"); });
  ordered_json json = config(std::nullopt);
  json["meta"]["activations"] = 4;
  test::expect_error(ErrorKind::kCorrupt, {"config.json", "activations is 4"},
                     [&] { parse_gptq_config(json, "config.json"); });
}

TEST(StaticGrid, IsRefusedUnlessItFitsItsScheme) {
  const quant::ActivationScheme tensor{8, 16, true, quant::Granularity::kPerTensor},
      channel{4, 16, false, quant::Granularity::kPerChannel};
  EXPECT_NO_THROW(quant::check_static_grid({{0.5f}, {128}}, tensor, 3, "q"));
  EXPECT_NO_THROW(quant::check_static_grid({{1, 2, 3}, {0, 15, 7}}, channel, 3, "q"));
  const auto refused = [](const quant::StaticGrid& grid, const quant::ActivationScheme& scheme,
                          std::initializer_list<std::string_view> words) {
    test::expect_error(ErrorKind::kCorrupt, words, [&] { quant::check_static_grid(grid, scheme, 3, "q"); });
  };
  refused({{1, 1, 1}, {1, 1, 1}}, tensor, {"3 input scales", "per_tensor"});
  refused({{1, 1}, {1, 1, 1}}, channel, {"2 input scales and 3 zero points"});
  for (const float scale : {0.0f, -1.0f, std::nanf(""), INFINITY})
    refused({{scale}, {128}}, tensor, {"scale is"});
  for (const float zero : {-1.0f, 16.0f, 0.5f, std::nanf("")})
    refused({{1, 1, 1}, {0, zero, 0}}, channel, {"zero point is"});
}

TEST(LosslessExports, FollowTheGrid) {
  const auto has = [](const quant::AffineSpec& spec, std::string_view name) {
    for (const std::string& found : lossless_exports(spec))
      if (found == name) return true;
    return false;
  };
  EXPECT_TRUE(has({4, 64, quant::Grid::kAsym}, "gptq"));
  EXPECT_TRUE(has({4, 64, quant::Grid::kAsym}, "awq"));
  EXPECT_FALSE(has({4, 64, quant::Grid::kAsym}, "compressed-tensors")) << "which is symmetric";
  EXPECT_TRUE(has({4, 64, quant::Grid::kSignedSym}, "compressed-tensors"));
  EXPECT_FALSE(has({4, 64, quant::Grid::kAsym}, "hf")) << "floats are no grid";
  EXPECT_TRUE(has({2, 64, quant::Grid::kSignedSym}, "gguf"));
}

}  // namespace
}  // namespace crumb::formats
