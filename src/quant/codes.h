// Codes into 32-bit words and back. Two layouts exist in the field; they differ at 3 bits only.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace crumb::quant {

/// kDense: a little-endian bit stream, 32 codes in `bits` words (GPTQ, compressed-tensors, MLX).
/// kPadded: floor(32 / bits) codes a word, no code crosses a word, the rest of the word is zero
/// (EfficientQAT; 3 bits: 10 a word).
enum class WordLayout { kDense, kPadded };

/// Words that `count` codes take: kDense ceil(count * bits / 32), kPadded ceil(count / floor(32 / bits)).
std::int64_t packed_words(std::int64_t count, int bits, WordLayout layout);

/// Packs `count` codes read at codes[0], codes[stride], … into words[0], words[word_stride], …; unused bits
/// are zero. Throws InvalidArgument when a code is above 2^bits - 1: a packer does not mask.
void pack_codes(const std::uint8_t* codes, std::int64_t stride, std::int64_t count, int bits,
                WordLayout layout, std::uint32_t* words, std::int64_t word_stride);

/// The inverse.
void unpack_codes(const std::uint32_t* words, std::int64_t word_stride, std::int64_t count, int bits,
                  WordLayout layout, std::uint8_t* codes, std::int64_t stride);

/// Every row of codes [N, K] as its own words, words [N, packed_words(K)]; and back. Parallel over rows.
void pack_rows(const std::uint8_t* codes, std::int64_t n, std::int64_t k, int bits, std::uint32_t* words,
               WordLayout layout = WordLayout::kDense);
void unpack_rows(const std::uint32_t* words, std::int64_t n, std::int64_t k, int bits, std::uint8_t* codes,
                 WordLayout layout = WordLayout::kDense);

}  // namespace crumb::quant
