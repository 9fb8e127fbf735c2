#include "formats/gguf_types.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/hash.h"
#include "base/rng.h"
#include "io/gguf.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::formats {
namespace {

using Bytes = std::vector<std::byte>;
using test::expect_error;

Bytes from_hex(std::string_view text) {
  Bytes bytes;
  std::string pair;
  for (const char c : text) {
    if (c == ' ') continue;
    pair += c;
    if (pair.size() < 2) continue;
    bytes.push_back(static_cast<std::byte>(std::stoi(pair, nullptr, 16)));
    pair.clear();
  }
  return bytes;
}

std::string repeat(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

const GgufType& type_of(std::string_view name) {
  for (std::uint32_t id = 0; id < 64; ++id) {
    const GgufType* type = find_gguf_type(id);
    if (type != nullptr && type->name == name) return *type;
  }
  throw std::runtime_error(std::string(name));
}

std::vector<float> decode(std::string_view name, const Bytes& bytes) {
  const GgufType& type = type_of(name);
  std::vector<float> out(bytes.size() / static_cast<std::size_t>(type.block_bytes) *
                         static_cast<std::size_t>(type.block_elements));
  dequantize_gguf(type, bytes, out);
  return out;
}

/// All numbers of these cases are small multiples of a power of two, so the values are exact.
void expect_values(std::string_view name, const Bytes& bytes, const std::function<double(int)>& value) {
  const std::vector<float> out = decode(name, bytes);
  for (std::size_t i = 0; i < out.size(); ++i)
    ASSERT_EQ(out[i], value(static_cast<int>(i))) << name << " element " << i;
  // Negative control: the lowest bit of every code byte matters, so a flip changes the values.
  Bytes damaged = bytes;
  damaged[damaged.size() / 2] ^= std::byte{1};
  EXPECT_NE(decode(name, damaged), out) << name;
}

int c32(int i) {
  return (7 * i + 3 + i / 16) % 16;
}
int c256(int i) {
  return i + i / 32;
}

TEST(GgufTypes, TableAgreesWithTheFormat) {
  struct Row {
    std::uint32_t id;
    const char* name;
    std::int64_t elements, bytes;
  };
  const Row rows[] = {{0, "F32", 1, 4},       {1, "F16", 1, 2},       {2, "Q4_0", 32, 18},
                      {3, "Q4_1", 32, 20},    {6, "Q5_0", 32, 22},    {7, "Q5_1", 32, 24},
                      {8, "Q8_0", 32, 34},    {10, "Q2_K", 256, 84},  {11, "Q3_K", 256, 110},
                      {12, "Q4_K", 256, 144}, {13, "Q5_K", 256, 176}, {14, "Q6_K", 256, 210},
                      {30, "BF16", 1, 2},     {42, "Q2_0", 64, 18}};
  std::size_t known = 0;
  for (std::uint32_t id = 0; id < 300; ++id) known += find_gguf_type(id) != nullptr;
  EXPECT_EQ(known, std::size(rows));
  for (const Row& row : rows) {
    const GgufType* type = find_gguf_type(row.id);
    ASSERT_NE(type, nullptr) << row.name;
    EXPECT_EQ(type->name, row.name);
    EXPECT_EQ(type->block_elements, row.elements) << row.name;
    EXPECT_EQ(type->block_bytes, row.bytes) << row.name;
  }
}

TEST(GgufTypes, SmallBlocksAgreeWithHandMadeBytes) {
  const std::string codes = "43ba21980f76ed54cb32a91087fe65dc";
  expect_values("Q4_0", from_hex("0038" + codes), [](int i) { return (c32(i) - 8) * .5; });
  expect_values("Q4_1", from_hex("003800be" + codes), [](int i) { return (c32(i) - 3) * .5; });
  expect_values("Q5_0", from_hex("0038 50a142a1 980f76ed54cb32a91087fe65dc43ba21"),
                [](int i) { return (c32(i) - 11) * .5; });
  expect_values("Q5_1", from_hex("003800be 50a142a1 980f76ed54cb32a91087fe65dc43ba21"),
                [](int i) { return (c32(i) + 5) * .5 - 1.5; });
  expect_values("Q4_0", from_hex("0038 54a9764398653a8754a9764398653a87"),
                [](int i) { return ((5 * i + 1 + i / 16) % 8 - 5) * .5; });
  const auto int2 = [](int i) { return (3 * i + i / 16) % 4; };
  expect_values("Q2_0", from_hex("0038 6c6c6c6cb1b1b1b1c6c6c6c61b1b1b1b"),
                [&](int i) { return (int2(i) - 1) * .5; });
  expect_values("Q2_0", from_hex("00b8 939393934e4e4e4e39393939e4e4e4e4"),
                [&](int i) { return (int2(i) - 2) * .5; });
  Bytes q8 = from_hex("0038");
  for (int i = -16; i < 16; ++i) q8.push_back(static_cast<std::byte>(i));
  expect_values("Q8_0", q8, [](int i) { return (i - 16) * .5; });
}

TEST(GgufTypes, Q2KAndQ3KAgreeWithHandMadeBytes) {
  expect_values("Q2_K", from_hex("f0e1d2c3b4a5968778695a4b3c2d1e0f" + repeat("e4394e93", 16) + "00380034"),
                [](int i) { return .5 * (i / 16) * (c256(i) % 4) - .25 * (15 - i / 16); });
  expect_values(
      "Q3_K",
      from_hex(repeat("f0783c1e0f87c3e1", 4) + repeat("e4394e93", 16) + "08192a3b4c5d6e7fa5a5a5a5" + "0038"),
      [](int i) { return .5 * (i / 16 - 8) * (c256(i) % 8 - 4); });
}

// An encoder written from the layout tables, its output compared with the given bytes; then the decoder with
// the values.
Bytes pack_scales_and_mins(const std::array<int, 8>& sc, const std::array<int, 8>& mn) {
  Bytes bytes(12);
  const auto put = [&](std::size_t at, int value) { bytes[at] = static_cast<std::byte>(value); };
  for (std::size_t j = 0; j < 4; ++j) {
    put(j, sc[j] | (sc[j + 4] >> 4) << 6);
    put(j + 4, mn[j] | (mn[j + 4] >> 4) << 6);
    put(j + 8, (sc[j + 4] & 15) | (mn[j + 4] & 15) << 4);
  }
  return bytes;
}

void append(Bytes& to, const Bytes& more) {
  to.insert(to.end(), more.begin(), more.end());
}

constexpr std::array<int, 8> kScales = {1, 2, 3, 4, 33, 34, 35, 36}, kMins = {5, 6, 7, 8, 49, 50, 51, 52};

TEST(GgufTypes, Q4KAndQ5KAgreeWithAnEncoderOfTheLayout) {
  const Bytes scales = pack_scales_and_mins(kScales, kMins);
  EXPECT_EQ(scales, from_hex("81828384c5c6c7c811223344"));
  const auto low_bytes = [](const std::function<int(int)>& code) {
    Bytes qs(128);
    for (int i = 0; i < 256; ++i) {
      qs[static_cast<std::size_t>(32 * (i / 64) + i % 32)] |=
          static_cast<std::byte>((code(i) & 15) << 4 * (i / 32 % 2));
    }
    return qs;
  };
  const auto value = [](int i, int code) {
    const auto j = static_cast<std::size_t>(i / 32);
    return .5 * kScales[j] * code - .25 * kMins[j];
  };
  const auto four = [](int i) { return c256(i) % 16; };
  Bytes q4 = from_hex("00380034");
  append(q4, scales);
  append(q4, low_bytes(four));
  EXPECT_EQ(Bytes(q4.begin() + 16, q4.begin() + 24), from_hex("1021324354657687"));
  expect_values("Q4_K", q4, [&](int i) { return value(i, four(i)); });

  const auto five = [](int i) { return (5 * i + i / 32) % 32; };
  Bytes q5 = from_hex("00380034"), high(32);
  for (int i = 0; i < 256; ++i)
    high[static_cast<std::size_t>(i % 32)] |=
        static_cast<std::byte>((five(i) >> 4) << (2 * (i / 64) + i % 64 / 32));
  append(q5, scales);
  append(q5, high);
  append(q5, low_bytes(five));
  expect_values("Q5_K", q5, [&](int i) { return value(i, five(i)); });
}

TEST(GgufTypes, Q6KAgreesWithAnEncoderOfTheLayout) {
  const auto code = [](int i) { return (i + 3 * (i / 32)) % 64; };
  Bytes block(210);
  for (int i = 0; i < 256; ++i) {
    const int n = i / 128, k = i % 128 / 32, l = i % 32;
    block[static_cast<std::size_t>(64 * n + l + 32 * (k & 1))] |=
        static_cast<std::byte>((code(i) & 15) << 4 * (k >> 1));
    block[static_cast<std::size_t>(128 + 32 * n + l)] |= static_cast<std::byte>((code(i) >> 4) << 2 * k);
  }
  for (int j = 0; j < 16; ++j) block[static_cast<std::size_t>(192 + j)] = static_cast<std::byte>(j - 8);
  block[208] = std::byte{0x00};
  block[209] = std::byte{0x38};
  EXPECT_EQ(Bytes(block.begin(), block.begin() + 4), from_hex("60718293"));
  EXPECT_EQ(Bytes(block.begin() + 32, block.begin() + 36), from_hex("93a4b5c6"));
  EXPECT_EQ(Bytes(block.begin() + 128, block.begin() + 132), from_hex("88888888"));
  expect_values("Q6_K", block, [&](int i) { return .5 * (i / 16 - 8) * (code(i) - 32); });
}

/// 64 blocks of random bytes whose half-precision fields are moved to an exponent of ordinary size.
Bytes random_blocks(const GgufType& type) {
  Bytes bytes;
  SplitMix64 rng(type.id);
  const auto size = static_cast<std::size_t>(64 * type.block_bytes);
  while (bytes.size() < size) {
    std::uint64_t word = rng.next();
    for (int b = 0; b < 8; ++b, word >>= 8) bytes.push_back(static_cast<std::byte>(word & 255));
  }
  bytes.resize(size);
  std::vector<std::size_t> halves = {0};
  if (type.name == "Q4_1" || type.name == "Q5_1" || type.name == "Q4_K" || type.name == "Q5_K")
    halves = {0, 2};
  if (type.name == "Q2_K") halves = {80, 82};
  if (type.name == "Q3_K") halves = {108};
  if (type.name == "Q6_K") halves = {208};
  for (std::size_t block = 0; block < size; block += static_cast<std::size_t>(type.block_bytes)) {
    if (type.block_elements == 1) {
      bytes[block + 1] &= std::byte{0xbf};  // neither NaN nor infinity
      continue;
    }
    for (const std::size_t half : halves) {
      std::byte& high = bytes[block + half + 1];
      high = (high & std::byte{0x83}) | std::byte{0x2c};
    }
  }
  return bytes;
}

// SHA-256 of the f32 values that the dequantizers of the Python package gguf 0.19.0 give for the same bytes:
// equal to the last bit.
TEST(GgufTypes, RandomBlocksEqualAnotherImplementationBitForBit) {
  const std::pair<const char*, const char*> recorded[] = {
      {"Q4_0", "8124a5a310cd76daa5114bace7b9bc9e62f4eb758f0266ce84d4cc3686504dd9"},
      {"Q4_1", "b44328f06f02005910672fe2f959022bf7eaf3ef18b5a75e3f00cfd18b73322e"},
      {"Q5_0", "574744d5c5081147151c654a1067b311e55dab6d7aa70bdbd5c270579e17485e"},
      {"Q5_1", "8878b68c1aed8fce3a5e72e6b5bebe56cda612743984374222a11ca1cf55d60e"},
      {"Q8_0", "51a0f7f5f5545ecc907573657366914bad83c990182539e2244b2f1a818867fe"},
      {"Q2_K", "544ff8ded3f212abaa61952ecd940263c52cb94733828e8a6d9691e98fd7940a"},
      {"Q3_K", "e3920c75f68e599e917bd4bfddf5971a7f5bc0f07a52168f6b615764e48f1ef0"},
      {"Q4_K", "f9c563dadad433ab4a34f79bac9e2e4e590427336d035d4d3a22c21cd1e6d926"},
      {"Q5_K", "fe2dc9df6b5044b3a76bcee614173c72aadf93cf81552d66fd037c0778b8d2be"},
      {"Q6_K", "a7ce1212c0cb38b74065351b08f9e4ef090a0ad061fe682c87b6732cf275e63a"},
      {"BF16", "1d1c66538f99681f6c370d30f7412cd3848e337fbd62d76e76b2507ae8ef9598"},
      {"F16", "a68dbdc9df88efd1d7f0f8b4e45acbc12b399aac98828a534e2a867b5e8c9583"},
  };
  for (const auto& [name, hash] : recorded) {
    const std::vector<float> values = decode(name, random_blocks(type_of(name)));
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(values))), hash) << name;
  }
}

TEST(DequantizeGguf, ARowAloneEqualsTheRowInTheTensor) {
  for (std::uint32_t id = 0; id < 64; ++id) {
    const GgufType* type = find_gguf_type(id);
    if (type == nullptr) continue;
    const Bytes bytes = random_blocks(*type);
    const std::vector<float> whole = decode(type->name, bytes);
    const std::size_t row_bytes = 16 * static_cast<std::size_t>(type->block_bytes),
                      row = 16 * static_cast<std::size_t>(type->block_elements);
    std::vector<float> alone(row);
    dequantize_gguf(*type, std::span(bytes).subspan(2 * row_bytes, row_bytes), alone);
    for (std::size_t i = 0; i < row; ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(alone[i]), std::bit_cast<std::uint32_t>(whole[2 * row + i]))
          << type->name;
    }
  }
}

TEST(DequantizeGguf, RefusesSizesThatDoNotFitTogether) {
  const GgufType& type = type_of("Q4_0");
  std::vector<float> out(64);
  expect_error(ErrorKind::kCorrupt, {"Q4_0", "35", "18"}, [&] { dequantize_gguf(type, Bytes(35), out); });
  expect_error(ErrorKind::kCorrupt, {"Q4_0"},
               [&] { dequantize_gguf(type, Bytes(36), std::span(out).first(63)); });
  dequantize_gguf(type, {}, std::span(out).first(0));
}

TEST(GgufTensorBytes, CountsBlocksAndRefusesFractions) {
  EXPECT_EQ(gguf_tensor_bytes(type_of("Q4_0"), 576, 3), 576 / 32 * 18 * 3);
  EXPECT_EQ(gguf_tensor_bytes(type_of("F32"), 7, 1), 28);
  EXPECT_EQ(gguf_tensor_bytes({"t", {64, 2, 3}, 42, 0}), 18 * 6);
  expect_error(ErrorKind::kCorrupt, {"Q4_K", "576", "256"},
               [] { gguf_tensor_bytes(type_of("Q4_K"), 576, 1); });
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  expect_error(ErrorKind::kCorrupt, {"F32", "2^63"}, [] { gguf_tensor_bytes(type_of("F32"), kMost / 2, 1); });
  expect_error(ErrorKind::kCorrupt, {"F32", "2^63"},
               [] { gguf_tensor_bytes(type_of("F32"), 1 << 30, std::int64_t{1} << 32); });
  expect_error(ErrorKind::kCorrupt, {"'tensor_x'", "Q8_0"}, [] {
    gguf_tensor_bytes({"tensor_x", {33}, 8, 0});
  });
  expect_error(ErrorKind::kUnsupported, {"'tensor_x'", "IQ4_NL", "Q4_K"}, [] {
    gguf_tensor_bytes({"tensor_x", {32}, 20, 0});
  });
  expect_error(ErrorKind::kUnsupported, {"'tensor_x'", "4711"}, [] {
    gguf_tensor_bytes({"tensor_x", {32}, 4711, 0});
  });
}

TEST(CheckGgufTensors, AcceptsWholeFilesAndNamesFileAndTensorOtherwise) {
  const test::TempDir dir;
  const auto file = [&](std::uint32_t type, std::size_t bytes) {
    io::write_gguf(dir / "f.gguf", {},
                   {{"first", {64, 2}, 42, Bytes(36)}, {"second", {32}, type, Bytes(bytes)}});
    return io::GgufFile(dir / "f.gguf");
  };
  EXPECT_NO_THROW(check_gguf_tensors(file(2, 18)));
  // A group-128 fork misuses id 42 with 34-byte blocks: the sizes give it away.
  io::write_gguf(dir / "g.gguf", {}, {{"first", {128}, 42, Bytes(34 * 40)}});
  expect_error(ErrorKind::kCorrupt, {"g.gguf"}, [&] { check_gguf_tensors(io::GgufFile(dir / "g.gguf")); });
  expect_error(ErrorKind::kUnsupported, {"f.gguf", "second", "IQ4_NL"},
               [&] { check_gguf_tensors(file(20, 18)); });
  expect_error(ErrorKind::kCorrupt, {"f.gguf", "follow"}, [&] { check_gguf_tensors(file(8, 34 + 64)); });
  expect_error(ErrorKind::kCorrupt, {"f.gguf", "second", "Q4_K"}, [&] { check_gguf_tensors(file(12, 144)); });
  expect_error(ErrorKind::kCorrupt, {"f.gguf", "second", "pass"}, [&] {
    io::write_gguf(dir / "f.gguf", {}, {{"second", {32, 1000}, 2, Bytes(18)}});
    check_gguf_tensors(io::GgufFile(dir / "f.gguf"));
  });
}

}  // namespace
}  // namespace crumb::formats
