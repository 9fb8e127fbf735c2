#include "quant/codes.h"

#include "base/check.h"
#include "base/error.h"
#include "base/parallel_for.h"

namespace crumb::quant {
namespace {

// Where code i begins: its word and the bit in it.
struct Place {
  std::int64_t word;
  int bit;
};

Place place_of(std::int64_t i, int bits, WordLayout layout) {
  if (layout == WordLayout::kDense) return {i * bits / 32, static_cast<int>(i * bits % 32)};
  const int per_word = 32 / bits;
  return {i / per_word, static_cast<int>(i % per_word) * bits};
}

}  // namespace

std::int64_t packed_words(std::int64_t count, int bits, WordLayout layout) {
  CRUMB_CHECK(bits >= 1 && bits <= 8 && count >= 0);
  if (layout == WordLayout::kDense) return (count * bits + 31) / 32;
  const int per_word = 32 / bits;
  return (count + per_word - 1) / per_word;
}

void pack_codes(const std::uint8_t* codes, std::int64_t stride, std::int64_t count, int bits,
                WordLayout layout, std::uint32_t* words, std::int64_t word_stride) {
  const std::int64_t word_count = packed_words(count, bits, layout);
  for (std::int64_t w = 0; w < word_count; ++w) words[w * word_stride] = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t code = codes[i * stride];
    if (code >> bits != 0) {
      fail(ErrorKind::kInvalidArgument, "quant.pack_codes", "code ", code, " at index ", i,
           " does not fit in ", bits, " bits; expected 0 to ", (1 << bits) - 1);
    }
    const Place place = place_of(i, bits, layout);
    words[place.word * word_stride] |= code << place.bit;
    if (place.bit + bits > 32) words[(place.word + 1) * word_stride] |= code >> (32 - place.bit);
  }
}

void unpack_codes(const std::uint32_t* words, std::int64_t word_stride, std::int64_t count, int bits,
                  WordLayout layout, std::uint8_t* codes, std::int64_t stride) {
  const std::uint32_t mask = (1u << bits) - 1;
  for (std::int64_t i = 0; i < count; ++i) {
    const Place place = place_of(i, bits, layout);
    std::uint32_t code = words[place.word * word_stride] >> place.bit;
    if (place.bit + bits > 32) code |= words[(place.word + 1) * word_stride] << (32 - place.bit);
    codes[i * stride] = static_cast<std::uint8_t>(code & mask);
  }
}

void pack_rows(const std::uint8_t* codes, std::int64_t n, std::int64_t k, int bits, std::uint32_t* words,
               WordLayout layout) {
  const std::int64_t row_words = packed_words(k, bits, layout);
  parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      pack_codes(codes + row * k, 1, k, bits, layout, words + row * row_words, 1);
    }
  });
}

void unpack_rows(const std::uint32_t* words, std::int64_t n, std::int64_t k, int bits, std::uint8_t* codes,
                 WordLayout layout) {
  const std::int64_t row_words = packed_words(k, bits, layout);
  parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      unpack_codes(words + row * row_words, 1, k, bits, layout, codes + row * k, 1);
    }
  });
}

}  // namespace crumb::quant
