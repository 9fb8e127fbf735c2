// Frequencies against values worked out apart from this code: by hand where powers of ten allow it, else from
// the formulas of docs/math.md (R1-R4) in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/config.h"
#include "support/expect_error.h"

namespace crumb::model {
namespace {

using nlohmann::json;
using test::expect_error;

json config_with_rope(std::int64_t head_dim, const json& members) {
  json config = {{"model_type", "llama"},
                 {"hidden_size", 4 * head_dim},
                 {"intermediate_size", 64},
                 {"num_hidden_layers", 1},
                 {"num_attention_heads", 4},
                 {"vocab_size", 100},
                 {"max_position_embeddings", 131072}};
  config.update(members);
  return config;
}
RopeFrequencies frequencies(std::int64_t head_dim, const json& members) {
  return rope_frequencies(parse_hf_config(config_with_rope(head_dim, members), "config.json"));
}

// A few roundings of f64 powers: relative 1e-13 leaves room for pow's last digits and none for another
// formula.
constexpr double kTolerance = 1e-13;
void expect_close(double found, double expected) {
  EXPECT_NEAR(found, expected, kTolerance * expected);
}

TEST(Rope, DefaultFallsByTheRootOfTheBase) {
  const auto [inv_freq, scaling] = frequencies(8, json::object());
  ASSERT_EQ(inv_freq.size(), 4u);
  for (const auto& [i, expected] : {std::pair{0, 1.0}, {1, 0.1}, {2, 0.01}, {3, 0.001}})
    expect_close(inv_freq[static_cast<std::size_t>(i)], expected);
  EXPECT_EQ(scaling, 1.0);
}

TEST(Rope, LinearDividesEveryFrequency) {
  for (const char* key : {"type", "rope_type"}) {
    const auto [inv_freq, scaling] = frequencies(8, {{"rope_scaling", {{key, "linear"}, {"factor", 4.0}}}});
    for (const auto& [i, expected] : {std::pair{0, 0.25}, {1, 0.025}, {3, 0.00025}})
      expect_close(inv_freq[static_cast<std::size_t>(i)], expected);
    EXPECT_EQ(scaling, 1.0);
  }
}

// Llama-3.2-1B: factor 32, base 5e5, head size 64. Wavelengths below 8192 / 4 stay (index 0 to 14), above
// 8192 are divided (18 and up).
TEST(Rope, Llama3KeepsShortBlendsAndDividesLongWavelengths) {
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 32.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  const auto [inv_freq, factor] = frequencies(64, {{"rope_theta", 500000.0}, {"rope_scaling", scaling}});
  ASSERT_EQ(inv_freq.size(), 32u);
  expect_close(inv_freq[0], 1.0);
  expect_close(inv_freq[14], std::pow(500000.0, -28.0 / 64));
  expect_close(inv_freq[15], 0.001290547928209264);
  expect_close(inv_freq[16], 0.00042955679655936815);
  expect_close(inv_freq[17], 9.70828780262767e-05);
  expect_close(inv_freq[18], std::pow(500000.0, -36.0 / 64) / 32);
  expect_close(inv_freq[31], std::pow(500000.0, -62.0 / 64) / 32);
  EXPECT_EQ(factor, 1.0);
}

// Qwen2.5 with yarn 4: head size 128, base 1e6, trained on 32768. The ramp runs from index 23 to 40.
TEST(Rope, YarnRampsBetweenTwoWholeDimensionsAndScalesAttention) {
  const json scaling = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};
  const auto [inv_freq, attention] = frequencies(128, {{"rope_theta", 1000000.0}, {"rope_scaling", scaling}});
  ASSERT_EQ(inv_freq.size(), 64u);
  expect_close(inv_freq[22], std::pow(10.0, -6 * 22 / 64.0));
  expect_close(inv_freq[23], std::pow(10.0, -6 * 23 / 64.0));
  expect_close(inv_freq[24], 0.005375321490790102);
  expect_close(inv_freq[32], 0.001 * (1 - 9.0 / 17 * 0.75));
  expect_close(inv_freq[40], std::pow(10.0, -6 * 40 / 64.0) / 4);
  expect_close(inv_freq[63], std::pow(10.0, -6 * 63 / 64.0) / 4);
  expect_close(attention, 1.138629436111989);

  json own = scaling;
  own["attention_factor"] = 1.25;
  EXPECT_EQ(frequencies(128, {{"rope_theta", 1e6}, {"rope_scaling", own}}).attention_scaling, 1.25);
}

TEST(Rope, ReadsTheTransformers5Spelling) {
  const json nested = {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 1e4}};
  expect_close(frequencies(8, {{"rope_parameters", nested}}).inv_freq[1], 0.05);
  expect_close(frequencies(8, {{"rope_parameters", {{"full_attention", nested}}}}).inv_freq[1], 0.05);
  expect_close(frequencies(8, {{"rope_theta", 1e8}, {"rope_parameters", nested}}).inv_freq[1], 0.05);
}

TEST(Rope, RefusesRotationsThatItDoesNotKnow) {
  const auto with = [](const json& scaling) { frequencies(8, {{"rope_scaling", scaling}}); };
  expect_error(ErrorKind::kUnsupported, {"'dynamic'", "default, linear, llama3, yarn"}, [&] {
    with({{"type", "dynamic"}, {"factor", 2.0}});
  });
  expect_error(ErrorKind::kUnsupported, {"partial_rotary_factor", "0.5"}, [] {
    frequencies(8, {{"partial_rotary_factor", 0.5}});
  });
  expect_error(ErrorKind::kUnsupported, {"mscale"}, [&] {
    with({{"type", "yarn"}, {"factor", 2.0}, {"mscale", 1.0}});
  });
  const json two = {{"full_attention", {{"rope_theta", 1e6}}}, {"sliding_attention", {{"rope_theta", 1e4}}}};
  expect_error(ErrorKind::kUnsupported, {"sliding_attention"}, [&] {
    frequencies(8, {{"rope_parameters", two}});
  });
}

TEST(Rope, RefusesMissingAndImpossibleNumbers) {
  const auto with = [](const json& scaling) { frequencies(8, {{"rope_scaling", scaling}}); };
  expect_error(ErrorKind::kCorrupt, {"'linear'", "'factor'"}, [&] { with({{"type", "linear"}}); });
  expect_error(ErrorKind::kCorrupt, {"factor", "0.5"}, [&] { with({{"type", "linear"}, {"factor", 0.5}}); });
  expect_error(ErrorKind::kCorrupt, {"rope_theta"}, [] { frequencies(8, {{"rope_theta", -1.0}}); });
  json llama3 = {
      {"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}};
  expect_error(ErrorKind::kCorrupt, {"original_max_position_embeddings"}, [&] { with(llama3); });
  llama3["original_max_position_embeddings"] = 1e200;
  expect_error(ErrorKind::kCorrupt, {"original_max_position_embeddings", "1e+200"}, [&] { with(llama3); });
  llama3["original_max_position_embeddings"] = 8192;
  llama3["high_freq_factor"] = 1.0;
  expect_error(ErrorKind::kCorrupt, {"high_freq_factor 1", "low_freq_factor 1"}, [&] { with(llama3); });
}

}  // namespace
}  // namespace crumb::model
