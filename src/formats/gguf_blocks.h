// One block of a GGUF type from its integers: the inverse of the formulas in gguf_types.cc.
// docs/formats/gguf.md has the layouts.
#pragma once
#include <cstddef>
#include <cstdint>

namespace crumb::formats {

/// Every function fills a whole block. Codes are one a byte, in the order of the weights; one that does not
/// fit throws InvalidArgument (quant::pack_codes). Scales are rounded to binary16, so give numbers that it
/// holds.
///
///   Q2_0  64  codes 0 … 3    (code - 1) d
///   Q4_0  32  codes 0 … 15   (code - 8) d
///   Q4_1  32  codes 0 … 15   code d + m
///   Q5_0  32  codes 0 … 31   (code - 16) d
///   Q8_0  32  codes 0 … 255  (code - 128) d
void put_q2_0(const std::uint8_t* codes, float d, std::byte* block);
void put_q4_0(const std::uint8_t* codes, float d, std::byte* block);
void put_q4_1(const std::uint8_t* codes, float d, float m, std::byte* block);
void put_q5_0(const std::uint8_t* codes, float d, std::byte* block);
void put_q8_0(const std::uint8_t* codes, float d, std::byte* block);

/// 256 codes 0 … 3; sc, mn [16] 0 … 15, each for 16 weights:  d sc code - dmin mn
void put_q2_k(const std::uint8_t* codes, const int* sc, const int* mn, float d, float dmin, std::byte* block);
/// 256 codes 0 … 7; sc [16] -32 … 31, each for 16 weights:  d sc (code - 4)
void put_q3_k(const std::uint8_t* codes, const int* sc, float d, std::byte* block);
/// 256 codes 0 … 15; sc, mn [8] 0 … 63, each for 32 weights:  d sc code - dmin mn
void put_q4_k(const std::uint8_t* codes, const int* sc, const int* mn, float d, float dmin, std::byte* block);

}  // namespace crumb::formats
