// What a configuration says about the activations of its model.
#include <gtest/gtest.h>

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
  for (const quant::ActivationScheme& bits :
       {quant::ActivationScheme{4, 4, false}, {8, 16, true}, {16, 2, false}}) {
    const auto found = parse_gptq_config(config(bits), "config.json").activations;
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(*found, bits);
  }
  EXPECT_FALSE(parse_gptq_config(config(std::nullopt), "config.json").activations.has_value());
  EXPECT_FALSE(config(std::nullopt)["meta"].contains("weight_bits"));
  EXPECT_EQ(config(std::nullopt, 6)["meta"]["weight_bits"], 6);
}

TEST(ActivationBitsRecord, OfUnknownBitsIsRefused) {
  for (const int bits : {1, 9, 32}) {
    ordered_json json = config(quant::ActivationScheme{4, 4, false});
    json["meta"]["activations"]["kv_bits"] = bits;
    test::expect_error(ErrorKind::kUnsupported, {"config.json", "meta.activations.kv_bits"},
                       [&] { parse_gptq_config(json, "config.json"); });
  }
  ordered_json json = config(std::nullopt);
  json["meta"]["activations"] = 4;
  test::expect_error(ErrorKind::kCorrupt, {"config.json", "activations is 4"},
                     [&] { parse_gptq_config(json, "config.json"); });
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
