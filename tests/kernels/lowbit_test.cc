#include "kernels/lowbit.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "kernels/lowbit_weights.h"

namespace crumb::kernels::test {
namespace {

template <class Body>
std::string message_of(ErrorKind kind, const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.kind()), to_string(kind));
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(Lowbit, UnpackGivesWhatWasPacked) {
  for (const LowbitCase& c : lowbit_cases()) {
    SCOPED_TRACE(::testing::PrintToString(c));
    const PackedLinear packed = pack_whole(random_linear(c, 1));
    const quant::QuantizedLinear back = unpack_lowbit(packed.view());
    ASSERT_EQ(back.codes, packed.linear.codes);
    ASSERT_EQ(back.scales, packed.linear.scales);
    ASSERT_EQ(back.zero_points, packed.linear.zero_points);
    ASSERT_TRUE(packed.memory.frame_intact());
  }
}

TEST(Lowbit, DequantizesAsTheScalarTruth) {
  for (const LowbitCase& c : lowbit_cases()) {
    SCOPED_TRACE(::testing::PrintToString(c));
    const PackedLinear packed = pack_whole(random_linear(c, 2));
    const std::vector<float> wanted = quant::dequantize(packed.linear);
    std::vector<float> actual(wanted.size());
    dequantize_lowbit(packed.view(), 0, c.n, actual.data());
    ASSERT_EQ(actual, wanted);  // -0 == 0
    std::vector<float> last(static_cast<std::size_t>(c.k));
    dequantize_lowbit(packed.view(), c.n - 1, c.n, last.data());
    ASSERT_TRUE(std::equal(last.begin(), last.end(), wanted.end() - c.k));
  }
}

TEST(Lowbit, TilesMayBePackedOneByOneAndBehindEachOther) {
  const LowbitCase c{32, 576, 64, 2, quant::Grid::kAsym};
  const PackedLinear whole = pack_whole(random_linear(c, 3));
  AlignedBytes pieces(lowbit_bytes(whole.shape));
  for (std::int64_t tile = whole.shape.tiles() - 1; tile >= 0; --tile)
    pack_lowbit(whole.linear, whole.shape, tile, tile + 1, pieces.data(), "w");
  EXPECT_EQ(std::memcmp(pieces.data(), whole.memory.data(), pieces.span().size()), 0);
  // Two weights of 16 rows are one of 32.
  const std::int64_t tile_bytes = lowbit_tile_bytes(whole.shape);
  AlignedBytes fused(lowbit_bytes(whole.shape));
  for (std::int64_t half = 0; half < 2; ++half) {
    quant::QuantizedLinear part{16, c.k, whole.linear.spec, {}, {}, {}};
    const auto cut = [&](const auto& from, auto& to) {
      const auto size = static_cast<std::ptrdiff_t>(from.size() / 2);
      to.assign(from.begin() + half * size, from.begin() + (half + 1) * size);
    };
    cut(whole.linear.codes, part.codes);
    cut(whole.linear.scales, part.scales);
    cut(whole.linear.zero_points, part.zero_points);
    const LowbitShape shape = lowbit_shape(16, c.k, part.spec, "w");
    pack_lowbit(part, shape, 0, 1, fused.data() + half * tile_bytes, "w");
  }
  EXPECT_EQ(std::memcmp(fused.data(), whole.memory.data(), fused.span().size()), 0);
}

TEST(Lowbit, BytesAreCodesScalesAndZeroPoints) {
  const auto bits_per_weight = [](int bits, std::int64_t group, quant::Grid grid) {
    const LowbitShape shape = lowbit_shape(4096, 4096, {bits, group, grid}, "w");
    return static_cast<double>(lowbit_bytes(shape)) * 8 / (4096.0 * 4096.0);
  };
  EXPECT_EQ(bits_per_weight(2, 64, quant::Grid::kAsym), 2 + (16 + 2) / 64.0);
  EXPECT_EQ(bits_per_weight(3, 64, quant::Grid::kAsym), 3 + (16 + 4) / 64.0);
  EXPECT_EQ(bits_per_weight(4, 32, quant::Grid::kAsym), 4 + (16 + 4) / 32.0);
  EXPECT_EQ(bits_per_weight(8, 128, quant::Grid::kAsym), 8 + (16 + 8) / 128.0);
  EXPECT_EQ(bits_per_weight(2, 64, quant::Grid::kSignedSym), 2 + 16 / 64.0);
  for (const LowbitCase& c : lowbit_cases()) {
    const LowbitShape shape = lowbit_shape(c.n, c.k, {c.bits, c.group, c.grid}, "w");
    EXPECT_EQ(lowbit_tile_bytes(shape) % 64, 0);
    EXPECT_EQ(lowbit_bytes(shape), shape.tiles() * lowbit_tile_bytes(shape));
  }
}

// The bytes of the format, written out: version 1 must stay readable. One row, K = 32, codes k mod 2^bits,
// scale 1.5 (0x3e00), zero point 1; 16 rows are padded with zeros.
TEST(Lowbit, WorkedExampleOfTheBytes) {
  const auto packed = [](int bits) {
    quant::QuantizedLinear linear{1, 32, {bits, 32, quant::Grid::kAsym}, {}, {1.5f}, {1}};
    for (int k = 0; k < 32; ++k) linear.codes.push_back(static_cast<std::uint8_t>(k & ((1 << bits) - 1)));
    return pack_whole(std::move(linear));
  };
  const auto byte = [](const PackedLinear& w, std::size_t at) {
    return std::to_integer<int>(w.memory.span()[at]);
  };
  for (const int bits : {2, 3, 4, 6, 8}) {
    const PackedLinear w = packed(bits);
    ASSERT_EQ(w.memory.span().size(), 64u + 64u * static_cast<unsigned>(bits));
    EXPECT_EQ(byte(w, 1), 0x3e);
    EXPECT_EQ(byte(w, 32), 1);
    // Byte b of row 0's first word.
    const int wanted[9][4] = {{},
                              {},
                              {0x00, 0x55, 0xaa, 0xff},
                              {0x00, 0x55, 0xaa, 0xff},
                              {0x40, 0x51, 0x62, 0x73},
                              {},
                              {0x40, 0x51, 0x62, 0x73},
                              {},
                              {0, 1, 2, 3}};
    for (std::size_t b = 0; b < 4; ++b)
      EXPECT_EQ(byte(w, 64 + b), wanted[bits][b]) << bits << " bits, byte " << b;
    for (std::size_t b = 4; b < 64; ++b) EXPECT_EQ(byte(w, 64 + b), 0);
    // High bits: quads 1, 3, 5, 7 of codes 4 … 7, at bits 4, 0, 5, 1.
    if (bits == 3) {
      EXPECT_EQ(byte(w, 64 + 128), 0x33);
    }
    // High two bits: of codes 0 … 15 none, of codes 16 … 31 a one each.
    if (bits == 6) {
      EXPECT_EQ(byte(w, 64 + 256), 0);
      EXPECT_EQ(byte(w, 64 + 320), 0x55);
    }
  }
}

TEST(Lowbit, RefusesWhatItCannotStore) {
  const LowbitCase c{20, 128, 64, 3, quant::Grid::kAsym};
  const auto pack = [](quant::QuantizedLinear linear) { pack_whole(std::move(linear)); };
  {
    quant::QuantizedLinear linear = random_linear(c, 4);
    linear.scales[37] = 0.1f;  // no binary16 number
    EXPECT_THAT(
        message_of(ErrorKind::kUnsupported, [&] { pack(linear); }),
        ::testing::AllOf(::testing::HasSubstr("w: scale 0.1"), ::testing::HasSubstr("row 18, group 1")));
    linear.scales[37] = 70000.0f;  // above the largest
    EXPECT_THAT(message_of(ErrorKind::kUnsupported, [&] { pack(linear); }), ::testing::HasSubstr("70000"));
  }
  {
    quant::QuantizedLinear linear = random_linear(c, 4);
    linear.codes[5 * 128 + 77] = 8;
    EXPECT_THAT(message_of(ErrorKind::kCorrupt, [&] { pack(linear); }),
                ::testing::HasSubstr("above 7 in 3 bits"));
  }
  {
    quant::QuantizedLinear linear = random_linear(c, 4);
    linear.zero_points[39] = 8;
    EXPECT_THAT(message_of(ErrorKind::kCorrupt, [&] { pack(linear); }),
                ::testing::HasSubstr("zero point 8 of row 19, group 1"));
  }
  {
    quant::QuantizedLinear linear = random_linear({20, 128, 64, 3, quant::Grid::kSignedSym}, 4);
    linear.zero_points[1] = 2;
    EXPECT_THAT(message_of(ErrorKind::kCorrupt, [&] { pack(linear); }),
                ::testing::HasSubstr("have 3 or one more"));
  }
  EXPECT_THAT(message_of(ErrorKind::kInvalidArgument,
                         [] {
                           lowbit_shape(0, 64, {2, 64, quant::Grid::kAsym}, "w");
                         }),
              ::testing::HasSubstr("[0, 64]"));
  message_of(ErrorKind::kInvalidArgument, [] { lowbit_shape(16, 100, {2, 64, quant::Grid::kAsym}, "w"); });
}

TEST(Lowbit, AViewRefusesOtherLayoutsSizesAndAddresses) {
  const PackedLinear packed = pack_whole(random_linear({20, 128, 64, 4, quant::Grid::kAsym}, 5));
  const std::span<std::byte> all = packed.memory.span();
  EXPECT_THAT(message_of(ErrorKind::kUnsupported, [&] { lowbit_matrix(packed.shape, all, 7, "w"); }),
              ::testing::HasSubstr("layout version 7"));
  EXPECT_THAT(
      message_of(ErrorKind::kCorrupt,
                 [&] { lowbit_matrix(packed.shape, all.first(all.size() - 64), kLowbitLayoutVersion, "w"); }),
      ::testing::HasSubstr("takes " + std::to_string(all.size())));
  AlignedBytes shifted(static_cast<std::int64_t>(all.size()) + 8);
  EXPECT_THAT(
      message_of(ErrorKind::kCorrupt,
                 [&] { lowbit_matrix(packed.shape, shifted.span().subspan(8), kLowbitLayoutVersion, "w"); }),
      ::testing::HasSubstr("8 modulo 64"));
}

}  // namespace
}  // namespace crumb::kernels::test
