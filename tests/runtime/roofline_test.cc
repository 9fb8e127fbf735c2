#include "runtime/roofline.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/synthetic.h"

namespace crumb::runtime {
namespace {

RooflineModel model(int bits) {
  RooflineModel m;
  m.config = formats::synthetic_config("1b");
  if (bits < 16) m.spec = quant::AffineSpec{bits, 64, quant::Grid::kAsym};
  return m;
}

/// So fast at everything else that bandwidth alone is left.
constexpr MachineRates kOnlyMemory{1, 10, 1, 1, 1e9, 1e9, 1e9, 1e9, 1e-9};

const RooflinePart& part(const std::vector<RooflinePart>& parts, const std::string& name) {
  return *std::find_if(parts.begin(), parts.end(), [&](const auto& p) { return p.name == name; });
}

TEST(Roofline, CountsWhatADecodedTokenReads) {
  // 16 blocks of (2048 + 512 + 512 + 2048) * 2048 + 3 * 8192 * 2048 weights; head 128256 * 2048 in f16.
  const double weights = 16.0 * (5120.0 * 2048 + 3.0 * 8192 * 2048), head = 128256.0 * 2048 * 2;
  const RooflinePrediction floats = predict(model(16), kOnlyMemory, 0, 1);
  EXPECT_DOUBLE_EQ(part(floats.decode, "block linears").bytes, 2 * weights);
  EXPECT_DOUBLE_EQ(part(floats.decode, "head").bytes, head);
  EXPECT_NEAR(part(floats.decode, "head").seconds, head / 10e9, 1e-9);
  // One key and one value of 8 heads of 64 in f16, 16 blocks.
  EXPECT_DOUBLE_EQ(part(floats.decode, "attention").bytes, 2.0 * 8 * 64 * 2 * 16);
  // Codes, a binary16 scale and a zero point of up to a byte for each 64: between 2.25 and 2.5 bits.
  const double packed = part(predict(model(2), kOnlyMemory, 0, 1).decode, "block linears").bytes;
  EXPECT_GT(packed, weights * 2.25 / 8);
  EXPECT_LT(packed, weights * 2.5 / 8);
}

TEST(Roofline, ATokenTakesTheSumOfItsParts) {
  const RooflinePrediction p = predict(model(2), {2, 20, 1, 1, 100, 400, 50, 200, 2}, 100, 512);
  double sum = 0;
  for (const RooflinePart& one : p.decode) sum += one.seconds;
  EXPECT_DOUBLE_EQ(p.decode_tokens_per_second * sum, 1);
  EXPECT_NEAR(part(p.decode, "synchronization").seconds, (5 * 16 + 1) * 2e-6, 1e-12);
}

TEST(Roofline, NamesWhatBounds) {
  EXPECT_EQ(predict(model(16), kOnlyMemory, 0, 1).decode_bound, "block linears: bandwidth");
  MachineRates slow = kOnlyMemory;
  slow.int8_decode_gops = slow.int8_prompt_gops = 1;
  const RooflinePrediction p = predict(model(2), slow, 0, 512);
  EXPECT_EQ(p.decode_bound, "block linears: int8");
  EXPECT_EQ(p.prompt_bound, "block linears: int8");
  EXPECT_NEAR(p.decode_tokens_per_second, 1 / 1.95, 0.06)
      << "1.95e9 operations a token at 1e9 a second, and the head's reading";
  slow = kOnlyMemory;
  slow.f32_gflops = 1;
  EXPECT_EQ(part(predict(model(2), slow, 4000, 1).decode, "attention").bound, "f32");
  slow = kOnlyMemory;
  slow.synchronization_us = 1e6;
  EXPECT_EQ(predict(model(2), slow, 0, 1).decode_bound, "synchronization: threads");
}

TEST(Roofline, FewerBitsAndAShorterContextAreFaster) {
  double before = 0;
  for (const int bits : {16, 8, 4, 3, 2}) {
    const double rate = predict(model(bits), kOnlyMemory, 1000, 1).decode_tokens_per_second;
    EXPECT_GT(rate, before) << bits;
    before = rate;
  }
  EXPECT_GT(predict(model(2), kOnlyMemory, 10, 1).decode_tokens_per_second,
            predict(model(2), kOnlyMemory, 8000, 1).decode_tokens_per_second);
  RooflineModel small_cache = model(2);
  small_cache.kv_format = kernels::KvFormat::kInt4;
  EXPECT_GT(predict(small_cache, kOnlyMemory, 8000, 1).decode_tokens_per_second,
            predict(model(2), kOnlyMemory, 8000, 1).decode_tokens_per_second);
}

TEST(Roofline, MeasuresOnlyWhatIsNotGiven) {
  RooflineModel small = model(4);
  small.config = formats::synthetic_config("135m");
  const MachineRates rates = measure_machine(small, {1, 123, 0, 0, 0, 77, 0, 0, 0});
  EXPECT_EQ(rates.read_gbps, 123);
  EXPECT_EQ(rates.linear_share, 1) << "a given bandwidth is reached";
  EXPECT_EQ(rates.int8_prompt_gops, 77);
  EXPECT_GT(rates.int8_decode_gops, 0);
  EXPECT_GT(rates.f32_gflops, 0);
  EXPECT_GT(rates.dense_decode_gflops, 0);
  EXPECT_EQ(rates.synchronization_us, 0) << "one thread waits for nobody";
}

TEST(Roofline, ThePictureHasEveryPartAndIsClosed) {
  const MachineRates rates{2, 20, 1, 1, 100, 400, 50, 200, 2};
  const std::string svg = roofline_svg(model(2), rates, predict(model(2), rates, 100, 512), "a <b> & c");
  for (const char* words : {"decode block linears", "prompt block linears", "decode head",
                            "reading, 20.0 GB/s", "a &lt;b&gt; &amp; c", "</svg>"})
    EXPECT_NE(svg.find(words), std::string::npos) << words;
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

}  // namespace
}  // namespace crumb::runtime
