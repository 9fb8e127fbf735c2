#include "kernels/packed.h"

#include "base/half.h"
#include "kernels/forced_isa.h"
#include "quant/affine.h"
#include "quant/codes.h"

namespace crumb::kernels::test {
namespace {

class Packed : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Packed, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

struct Weight {
  std::int64_t n, k;
  quant::AffineSpec spec;
  std::vector<std::uint8_t> codes, zero_points;
  std::vector<std::uint32_t> words;
  Floats scales;
  PackedArgs args() const { return packed_args(words.data(), zero_points.data(), scales.data(), n, k, spec); }
};

Weight weight_of(std::int64_t n, std::int64_t k, int bits, std::int64_t group) {
  Weight w{n, k, {bits, group, quant::Grid::kAsym}, {}, {}, {}, Floats(0)};
  SplitMix64 rng(static_cast<std::uint64_t>(bits * 1000 + group));
  for (std::int64_t i = 0; i < n * k; ++i)
    w.codes.push_back(static_cast<std::uint8_t>(rng.next() & ((1u << bits) - 1)));
  for (std::int64_t i = 0; i < n * w.spec.groups(k); ++i) {
    w.zero_points.push_back(static_cast<std::uint8_t>(rng.next() & ((1u << bits) - 1)));
  }
  w.scales = random_floats(n * w.spec.groups(k), 7, 0.02);  // of either sign
  const std::int64_t words = quant::packed_words(k, bits, quant::WordLayout::kDense);
  w.words.resize(static_cast<std::size_t>(n * words));
  for (std::int64_t i = 0; i < n; ++i) {
    quant::pack_codes(w.codes.data() + i * k, 1, k, bits, quant::WordLayout::kDense,
                      w.words.data() + i * words, 1);
  }
  return w;
}

std::vector<Weight> weights() {
  std::vector<Weight> all;
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {1, 2, 4, 8, 16, 24, 32, 48, 64, 96})
      all.push_back(weight_of(5, 192, bits, group));
    all.push_back(weight_of(3, 160, bits, -1));
    all.push_back(weight_of(3, 32, bits, 32));
  }
  return all;
}

TEST_P(Packed, DequantizesAsTheScalarTruthBitForBit) {
  active(packed_variants());
  for (const Weight& w : weights()) {
    SCOPED_TRACE(quant::scheme_name(w.spec));
    Floats wanted(w.n * w.k), actual(w.n * w.k);
    quant::dequantize(w.codes, w.scales.span(), w.zero_points, w.n, w.k, w.spec, wanted.span());
    dequantize_packed(w.args(), actual.data());
    ASSERT_TRUE(same_bits(actual.span(), wanted.span()));
    ASSERT_TRUE(actual.frame_intact());
    std::vector<std::uint16_t> bf16(static_cast<std::size_t>(w.n * w.k) + 1, 0xabcd);
    dequantize_packed_bf16(w.args(), bf16.data());
    for (std::int64_t i = 0; i < w.n * w.k; ++i)
      ASSERT_EQ(bf16[static_cast<std::size_t>(i)], float_to_bf16(wanted[i])) << i;
    ASSERT_EQ(bf16.back(), 0xabcd);
  }
}

TEST_P(Packed, ScaleGradientIsTheSumOverTheGroup) {
  active(packed_variants());
  for (const Weight& w : weights()) {
    SCOPED_TRACE(quant::scheme_name(w.spec));
    const Floats grad = random_floats(w.n * w.k, 11);
    const std::int64_t group = w.spec.group_of(w.k), groups = w.n * w.spec.groups(w.k);
    std::vector<double> wanted, bound;
    for (std::int64_t g = 0; g < groups; ++g) {
      double sum = 0, magnitude = 0;
      for (std::int64_t j = g * group; j < (g + 1) * group; ++j) {
        const double term =
            (w.codes[static_cast<std::size_t>(j)] - w.zero_points[static_cast<std::size_t>(g)]) *
            static_cast<double>(grad[j]);
        sum += term;
        magnitude += std::abs(term);
      }
      wanted.push_back(sum);
      bound.push_back(static_cast<double>(group + 2) * kUnit * magnitude);
    }
    Floats actual(groups);
    packed_scale_gradient(w.args(), grad.data(), actual.data());
    ASSERT_EQ(count_outside(actual.span(), wanted, bound), 0);
    ASSERT_TRUE(actual.frame_intact());
    // One code of the first group changed by one is outside the bound.
    Weight changed = w;
    changed.words[0] ^= 1u;
    packed_scale_gradient(changed.args(), grad.data(), actual.data());
    ASSERT_GE(count_outside(actual.span(), wanted, bound, /*report=*/false), 1);
  }
}

// §9.5 of the method's worked cases: codes 0 1 2 3, z = 1; dW = 2 (1, 2, -1, 3) gives 8, here repeated along
// a row of 32.
TEST_P(Packed, WorkedExampleOfTheScaleGradient) {
  Weight w = weight_of(1, 32, 2, 4);
  for (std::uint32_t& word : w.words) word = 0xE4E4E4E4u;
  for (std::uint8_t& z : w.zero_points) z = 1;
  Floats grad(32), actual(8);
  for (std::int64_t j = 0; j < 32; ++j)
    grad[j] = 2.0f * std::array{1.0f, 2.0f, -1.0f, 3.0f}[static_cast<std::size_t>(j % 4)];
  packed_scale_gradient(w.args(), grad.data(), actual.data());
  for (const float x : actual.span()) EXPECT_EQ(x, 8.0f);
}

}  // namespace
}  // namespace crumb::kernels::test
