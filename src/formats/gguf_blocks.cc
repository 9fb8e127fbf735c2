#include "formats/gguf_blocks.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "quant/codes.h"

namespace crumb::formats {
namespace {

constexpr int kMostCodes = 256;

void put_half(float value, std::byte* to) {
  const std::uint16_t half = float_to_f16(value);
  std::memcpy(to, &half, sizeof half);
}

/// `count` codes of `bits` bits as a dense stream in which code i is followed by code i + run, i + 2 run, …
/// up to `planes` of them: GGUF's way to let one shift of 32 bytes give 32 consecutive weights. planes = 1:
/// in order.
void put_planes(const std::uint8_t* codes, int count, int planes, int bits, std::byte* to) {
  CRUMB_CHECK(count <= kMostCodes && count % planes == 0);
  std::array<std::uint8_t, kMostCodes> ordered;
  const int run = count / planes;
  for (int i = 0; i < count; ++i) ordered[static_cast<std::size_t>(i)] = codes[i % planes * run + i / planes];
  std::array<std::uint32_t, kMostCodes * 8 / 32> words;
  quant::pack_codes(ordered.data(), 1, count, bits, quant::WordLayout::kDense, words.data(), 1);
  std::memcpy(to, words.data(), static_cast<std::size_t>(count * bits / 8));
}

/// Bits `shift` … `shift + bits - 1` of each code.
std::array<std::uint8_t, kMostCodes> bits_of(const std::uint8_t* codes, int count, int shift, int bits) {
  std::array<std::uint8_t, kMostCodes> out{};
  for (int i = 0; i < count; ++i)
    out[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(codes[i] >> shift & ((1 << bits) - 1));
  return out;
}

/// Q2_K's and Q3_K's two low bits: 32 bytes for 128 weights.
void put_k_low2(const std::uint8_t* codes, std::byte* to) {
  for (int half = 0; half < 2; ++half) put_planes(codes + 128 * half, 128, 4, 2, to + 32 * half);
}

std::byte byte_of(int value) {
  CRUMB_CHECK(value >= 0 && value <= 255);
  return static_cast<std::byte>(value);
}

}  // namespace

void put_q2_0(const std::uint8_t* codes, float d, std::byte* block) {
  put_half(d, block);
  put_planes(codes, 64, 1, 2, block + 2);
}

void put_q4_0(const std::uint8_t* codes, float d, std::byte* block) {
  put_half(d, block);
  put_planes(codes, 32, 2, 4, block + 2);
}

void put_q4_1(const std::uint8_t* codes, float d, float m, std::byte* block) {
  put_half(d, block);
  put_half(m, block + 2);
  put_planes(codes, 32, 2, 4, block + 4);
}

void put_q5_0(const std::uint8_t* codes, float d, std::byte* block) {
  put_half(d, block);
  put_planes(bits_of(codes, 32, 4, 4).data(), 32, 1, 1, block + 2);  // a code of 32 or more does not fit
  put_planes(bits_of(codes, 32, 0, 4).data(), 32, 2, 4, block + 6);
}

void put_q8_0(const std::uint8_t* codes, float d, std::byte* block) {
  put_half(d, block);
  for (int i = 0; i < 32; ++i) block[2 + i] = static_cast<std::byte>(codes[i] - 128);
}

void put_q2_k(const std::uint8_t* codes, const int* sc, const int* mn, float d, float dmin,
              std::byte* block) {
  for (int j = 0; j < 16; ++j) {
    CRUMB_CHECK(sc[j] >= 0 && sc[j] < 16 && mn[j] >= 0 && mn[j] < 16);
    block[j] = byte_of(sc[j] | mn[j] << 4);
  }
  put_k_low2(codes, block + 16);
  put_half(d, block + 80);
  put_half(dmin, block + 82);
}

void put_q3_k(const std::uint8_t* codes, const int* sc, float d, std::byte* block) {
  put_planes(bits_of(codes, 256, 2, 6).data(), 256, 8, 1, block);  // a code of 8 or more does not fit
  put_k_low2(bits_of(codes, 256, 0, 2).data(), block + 32);
  std::byte* const packed = block + 96;
  std::memset(packed, 0, 12);
  for (int j = 0; j < 16; ++j) {
    CRUMB_CHECK(sc[j] >= -32 && sc[j] < 32);
    const int scale = sc[j] + 32;
    packed[j % 8] |= byte_of((scale & 15) << 4 * (j / 8));
    packed[8 + j % 4] |= byte_of(scale >> 4 << 2 * (j / 4));
  }
  put_half(d, block + 108);
}

void put_q4_k(const std::uint8_t* codes, const int* sc, const int* mn, float d, float dmin,
              std::byte* block) {
  put_half(d, block);
  put_half(dmin, block + 2);
  std::byte* const packed = block + 4;
  for (int j = 0; j < 8; ++j) CRUMB_CHECK(sc[j] >= 0 && sc[j] < 64 && mn[j] >= 0 && mn[j] < 64);
  for (int j = 0; j < 4; ++j) {
    packed[j] = byte_of(sc[j] | sc[j + 4] >> 4 << 6);
    packed[j + 4] = byte_of(mn[j] | mn[j + 4] >> 4 << 6);
    packed[j + 8] = byte_of((sc[j + 4] & 15) | (mn[j + 4] & 15) << 4);
  }
  for (int part = 0; part < 4; ++part) put_planes(codes + 64 * part, 64, 2, 4, block + 16 + 32 * part);
}

}  // namespace crumb::formats
