#include "formats/linear_specs.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace crumb::formats {
namespace {

using Match = LinearSpecs::Match;
using test::expect_error;

constexpr quant::AffineSpec kTwo{2, 64, quant::Grid::kAsym}, kFour{4, 32, quant::Grid::kAsym};

TEST(LinearSpecs, TheFirstRuleThatMatchesDecides) {
  LinearSpecs specs(kTwo);
  specs.add(Match::kName, "model.layers.0.mlp.up_proj", kFour, "config.json");
  specs.add(Match::kBegin, "model\\.layers\\.0\\.mlp\\..*", std::nullopt, "config.json");
  EXPECT_EQ(specs.of("model.layers.0.mlp.up_proj"), kFour);
  EXPECT_EQ(specs.of("model.layers.0.mlp.down_proj"), std::nullopt);
  EXPECT_EQ(specs.of("model.layers.10.mlp.down_proj"), kTwo);
  EXPECT_EQ(LinearSpecs().of("x"), std::nullopt);
}

// re.match needs no match up to the end, and re.search none from the beginning.
TEST(LinearSpecs, ExpressionsMatchAsPythonsDo) {
  LinearSpecs begin, anywhere;
  begin.add(Match::kBegin, "mlp|model\\.layers\\.1", kTwo, "config.json");
  anywhere.add(Match::kAnywhere, "down_proj$|layers\\.3\\b", kTwo, "config.json");
  EXPECT_TRUE(begin.of("model.layers.12.mlp.up_proj"));
  EXPECT_FALSE(begin.of("model.layers.2.mlp.up_proj"));
  EXPECT_TRUE(anywhere.of("model.layers.2.mlp.down_proj"));
  EXPECT_TRUE(anywhere.of("model.layers.3.mlp.up_proj"));
  EXPECT_FALSE(anywhere.of("model.layers.33.mlp.up_proj"));
}

TEST(LinearSpecs, AnExactExpressionMatchesItsNameAlone) {
  LinearSpecs specs;
  specs.add(Match::kBegin, exact_expression("model.layers.1.mlp.up_proj"), kTwo, "config.json");
  EXPECT_TRUE(specs.of("model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(specs.of("model.layers.1.mlp.up_proj2"));
  EXPECT_FALSE(specs.of("model.layers.1xmlp.up_proj"));
}

TEST(LinearSpecs, RefusesExpressionsThatAreNoneOrNeverEnd) {
  LinearSpecs specs;
  expect_error(ErrorKind::kCorrupt, {"config.json", "(x", "does not compile"},
               [&] { specs.add(Match::kBegin, "(x", kTwo, "config.json"); });
  expect_error(ErrorKind::kUnsupported, {"config.json", "5000 bytes"},
               [&] { specs.add(Match::kBegin, std::string(5000, 'x'), kTwo, "config.json"); });
  specs.add(Match::kBegin, "(?:(?:a|a)+)+$", kTwo, "config.json");
  expect_error(ErrorKind::kUnsupported, {"(?:(?:a|a)+)+$", "gave up"},
               [&] { specs.of(std::string(60, 'a') + "b"); });
}

}  // namespace
}  // namespace crumb::formats
