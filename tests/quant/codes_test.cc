#include "quant/codes.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/rng.h"
#include "support/expect_error.h"

namespace crumb::quant {
namespace {

using Codes = std::vector<std::uint8_t>;
using Words = std::vector<std::uint32_t>;

Words pack(const Codes& codes, int bits, WordLayout layout) {
  Words words(static_cast<std::size_t>(packed_words(static_cast<std::int64_t>(codes.size()), bits, layout)),
              0xdeadbeefu);
  pack_codes(codes.data(), 1, static_cast<std::int64_t>(codes.size()), bits, layout, words.data(), 1);
  return words;
}

Codes counting(int count, int modulus) {
  Codes codes(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) codes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i % modulus);
  return codes;
}

TEST(PackCodes, AgreesWithHandPackedWords) {
  EXPECT_EQ(pack(counting(16, 4), 2, WordLayout::kDense), Words{0xE4E4E4E4u});
  EXPECT_EQ(pack({3, 2, 1, 0, 0, 1, 2, 3, 1, 1, 1, 1, 2, 0, 2, 0}, 2, WordLayout::kDense),
            Words{0x2255E41Bu});
  EXPECT_EQ(pack(counting(8, 8), 4, WordLayout::kDense), Words{0x76543210u});
  EXPECT_EQ(pack({1, 15, 0, 8, 7, 2, 14, 9}, 4, WordLayout::kDense), Words{0x9E2780F1u});
  EXPECT_EQ(pack({0, 1, 2, 3, 12, 13, 14, 15}, 4, WordLayout::kDense), Words{0xFEDC3210u});
  EXPECT_EQ(pack({0, 1, 128, 255}, 8, WordLayout::kDense), Words{0xFF800100u});
  EXPECT_EQ(pack(Codes(16, 2), 2, WordLayout::kDense), Words{0xAAAAAAAAu});
}

TEST(PackCodes, ThreeBitsDifferBetweenTheLayouts) {
  EXPECT_EQ(pack(counting(32, 8), 3, WordLayout::kDense), (Words{0x88FAC688u, 0xC688FAC6u, 0xFAC688FAu}));
  EXPECT_EQ(pack(counting(32, 8), 3, WordLayout::kPadded),
            (Words{0x08FAC688u, 0x1A23EB1Au, 0x2C688FACu, 0x0000003Eu}));
  EXPECT_EQ(pack({0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3}, 3, WordLayout::kPadded),
            (Words{0x08FAC688u, 0x0000001Au}));
  Codes other(32);
  for (int i = 0; i < 32; ++i)
    other[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>((5 * i + 3) % 8);
  EXPECT_EQ(pack(other, 3, WordLayout::kDense), (Words{0x43C67543u, 0x7543C675u, 0xC67543C6u}));
}

TEST(PackCodes, EveryLayoutIsTheInverseOfUnpack) {
  SplitMix64 rng(7);
  for (const int bits : {2, 3, 4, 8}) {
    for (const WordLayout layout : {WordLayout::kDense, WordLayout::kPadded}) {
      for (const int count : {1, 9, 10, 11, 31, 32, 33, 64, 97}) {
        Codes codes(static_cast<std::size_t>(count));
        for (auto& code : codes) code = static_cast<std::uint8_t>(rng.next() & ((1u << bits) - 1));
        const Words words = pack(codes, bits, layout);
        Codes back(codes.size(), 0xee);
        unpack_codes(words.data(), 1, count, bits, layout, back.data(), 1);
        ASSERT_EQ(back, codes) << bits << " bits, " << count;
        // Negative control: one flipped bit of the last code must show.
        Words damaged = words;
        Codes last(codes.size(), 0);
        last.back() = 1;
        const Words flip = pack(last, bits, layout);
        for (std::size_t i = 0; i < damaged.size(); ++i) damaged[i] ^= flip[i];
        unpack_codes(damaged.data(), 1, count, bits, layout, back.data(), 1);
        ASSERT_NE(back, codes);
      }
    }
  }
}

TEST(PackCodes, StridesReachColumnsAndTouchNothingElse) {
  constexpr int kRows = 32, kColumns = 3;
  Codes codes(kRows * kColumns);
  std::iota(codes.begin(), codes.end(), std::uint8_t{0});
  for (auto& code : codes) code %= 8;
  Words words(3 * kColumns, 0x12345678u);
  pack_codes(codes.data() + 1, kColumns, kRows, 3, WordLayout::kDense, words.data() + 1, kColumns);
  Codes column(kRows);
  for (int i = 0; i < kRows; ++i)
    column[static_cast<std::size_t>(i)] = codes[static_cast<std::size_t>(i * kColumns + 1)];
  const Words expected = pack(column, 3, WordLayout::kDense);
  for (int w = 0; w < 3; ++w) {
    EXPECT_EQ(words[static_cast<std::size_t>(w * kColumns)], 0x12345678u);
    EXPECT_EQ(words[static_cast<std::size_t>(w * kColumns + 1)], expected[static_cast<std::size_t>(w)]);
    EXPECT_EQ(words[static_cast<std::size_t>(w * kColumns + 2)], 0x12345678u);
  }
  Codes back(codes.size(), 0xee);
  unpack_codes(words.data() + 1, kColumns, kRows, 3, WordLayout::kDense, back.data() + 1, kColumns);
  for (std::size_t i = 0; i < back.size(); ++i) EXPECT_EQ(back[i], i % kColumns == 1 ? codes[i] : 0xee);
}

TEST(PackCodes, RefusesACodeThatDoesNotFit) {
  for (const int bits : {2, 3, 4}) {
    Codes codes(8, 1);
    codes[5] = static_cast<std::uint8_t>(1 << bits);
    test::expect_error(ErrorKind::kInvalidArgument, {"index 5", std::to_string(1 << bits)},
                       [&] { pack(codes, bits, WordLayout::kDense); });
  }
}

}  // namespace
}  // namespace crumb::quant
