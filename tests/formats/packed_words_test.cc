// The codecs of the faces: words that other programs make, round trips, refusals.
#include <gtest/gtest.h>

#include "formats/awq.h"
#include "formats/compressed_tensors.h"
#include "formats/mlx.h"
#include "formats/packed_reader.h"
#include "support/codes_checkpoint.h"
#include "support/expect_error.h"

namespace crumb::formats {
namespace {

using quant::Grid;
using quant::WordLayout;
using test::expect_error;
using test::random_codes;
using test::Zeros;

quant::QuantizedLinear one_group(int bits, std::int64_t n, std::int64_t k, const auto& code,
                                 const auto& zero) {
  quant::QuantizedLinear linear{n, k, {bits, -1, Grid::kAsym}, {}, {}, {}};
  for (std::int64_t row = 0; row < n; ++row) {
    for (std::int64_t i = 0; i < k; ++i) linear.codes.push_back(static_cast<std::uint8_t>(code(row, i)));
    linear.scales.push_back(0.5f);
    linear.zero_points.push_back(static_cast<std::uint8_t>(zero(row)));
  }
  return linear;
}

// Words of the formats specification, section 9.
TEST(CompressedTensors, HasTheWordsThatTheLibraryMakes) {
  const auto mod8 = [](std::int64_t, std::int64_t i) { return i % 8; };
  const auto zero = [](std::int64_t row) { return 1 + row % 7; };
  const CompressedParts parts = pack_compressed(one_group(3, 32, 32, mod8, zero), false);
  EXPECT_EQ(std::vector(parts.packed.begin(), parts.packed.begin() + 3),
            (std::vector<std::uint32_t>{0x88FAC688, 0xC688FAC6, 0xFAC688FA}));
  EXPECT_EQ(parts.zero_points, (std::vector<std::uint32_t>{0x1A3F58D1, 0xFD6347EB, 0x8D1FAC68}));
  const auto mod4 = [](std::int64_t, std::int64_t i) { return i % 4; };
  EXPECT_EQ(pack_compressed(one_group(2, 1, 16, mod4, [](auto) { return 2; }), true).packed,
            std::vector<std::uint32_t>{0xE4E4E4E4});
}

TEST(CompressedTensors, ReadsTheOlderPackingOfThreeBits) {
  CompressedParts parts{1, 32, {0x08FAC688, 0x1A23EB1A, 0x2C688FAC, 0x0000003E}, {0.5f}, {}};
  const quant::AffineSpec spec{3, -1, Grid::kSignedSym};
  EXPECT_EQ(layout_of_words(4, 32, 3), WordLayout::kPadded);
  EXPECT_EQ(layout_of_words(3, 32, 3), WordLayout::kDense);
  EXPECT_EQ(layout_of_words(2, 32, 2), WordLayout::kDense);
  const auto linear = unpack_compressed(parts, spec, WordLayout::kPadded, WordLayout::kDense, "up");
  for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(linear.codes[i], i % 8);
  expect_error(ErrorKind::kCorrupt, {"up", "weight_packed", "4", "3"},
               [&] { unpack_compressed(parts, spec, WordLayout::kDense, WordLayout::kDense, "up"); });
}

TEST(CompressedTensors, RefusesToLeaveZeroPointsOut) {
  const auto codes = [](std::int64_t, std::int64_t i) { return i % 4; };
  expect_error(ErrorKind::kInvalidArgument, {"zero point is 1", "2"},
               [&] { pack_compressed(one_group(2, 1, 16, codes, [](auto) { return 1; }), true); });
}

TEST(Awq, HasItsOrderOfNibbles) {
  const int others[] = {1, 15, 0, 8, 7, 2, 14, 9};
  const AwqParts first = pack_awq(one_group(
      4, 8, 8, [](auto row, auto) { return row; }, [](auto row) { return row; }));
  EXPECT_EQ(first.qweight, std::vector<std::uint32_t>(8, 0x75316420));
  EXPECT_EQ(first.qzeros, std::vector<std::uint32_t>{0x75316420});
  const AwqParts second = pack_awq(one_group(
      4, 8, 8, [&](auto row, auto) { return others[row]; }, [](auto) { return 1; }));
  EXPECT_EQ(second.qweight, std::vector<std::uint32_t>(8, 0x928FE701));
  expect_error(ErrorKind::kInvalidArgument, {"3 bits"}, [] {
    pack_awq(one_group(
        3, 8, 8, [](auto, auto) { return 1; }, [](auto) { return 1; }));
  });
  expect_error(ErrorKind::kUnsupported, {"up", "N = 12"}, [] {
    unpack_awq({12, 32, {}, {}, {}}, {4, 32, Grid::kAsym}, "up");
  });
  expect_error(ErrorKind::kCorrupt, {"up", "qzeros"}, [] {
    unpack_awq({8, 32, std::vector<std::uint32_t>(32), {}, {}}, {4, 32, Grid::kAsym}, "up");
  });
}

TEST(Mlx, HasADenseStreamAndTheProductAsBias) {
  const MlxParts parts = pack_mlx(one_group(
      3, 1, 32, [](auto, auto i) { return i % 8; }, [](auto) { return 5; }));
  EXPECT_EQ(parts.words, (std::vector<std::uint32_t>{0x88FAC688, 0xC688FAC6, 0xFAC688FA}));
  EXPECT_EQ(parts.biases, std::vector<float>{-2.5f});
  EXPECT_TRUE(fits_f16(parts));
}

TEST(Mlx, FindsTheZeroPointBehindARoundedBias) {
  quant::QuantizedLinear linear = random_codes(16, 64, {4, 32, Grid::kAsym}, Zeros::kAny, 7);
  for (const DType stored : {DType::kF16, DType::kBF16, DType::kF32}) {
    MlxParts parts = pack_mlx(linear);
    const auto round_all = [&](std::vector<float>& values) {
      io::convert_to_f32(io::convert_from_f32(values, stored), stored, values);
    };
    round_all(parts.biases);
    const auto back = unpack_mlx(parts, linear.spec, stored, "up");
    EXPECT_EQ(back.zero_points, linear.zero_points);
    EXPECT_EQ(back.codes, linear.codes);
  }
}

TEST(Mlx, RefusesABiasThatIsNoZeroPoint) {
  const quant::AffineSpec spec{2, 32, Grid::kAsym};
  MlxParts parts = pack_mlx(random_codes(2, 64, spec, Zeros::kAny, 7));
  const MlxParts good = parts;
  parts.biases[3] = -1.4f * parts.scales[3];
  expect_error(ErrorKind::kUnsupported, {"up", "group 1 of row 1"},
               [&] { unpack_mlx(parts, spec, DType::kF16, "up"); });
  parts = good;
  parts.biases[0] = parts.scales[0];  // z = -1
  expect_error(ErrorKind::kUnsupported, {"up", "group 0 of row 0"},
               [&] { unpack_mlx(parts, spec, DType::kF32, "up"); });
  parts = good;
  parts.words.pop_back();
  expect_error(ErrorKind::kCorrupt, {"up", "weight"}, [&] { unpack_mlx(parts, spec, DType::kF32, "up"); });
  EXPECT_NO_THROW(unpack_mlx(good, spec, DType::kF32, "up"));
}

class Widths : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Codecs, Widths, ::testing::Values(2, 3, 4, 8));

TEST_P(Widths, EveryCodecGivesBackWhatItGot) {
  for (const std::int64_t group : {32, 64, -1}) {
    const quant::AffineSpec spec{GetParam(), group, Grid::kAsym};
    const auto linear = random_codes(48, 192, spec, Zeros::kAny, 11);
    const auto expect_same = [&](const quant::QuantizedLinear& back) {
      EXPECT_EQ(back.codes, linear.codes);
      EXPECT_EQ(back.scales, linear.scales);
      EXPECT_EQ(back.zero_points, linear.zero_points);
    };
    expect_same(
        unpack_compressed(pack_compressed(linear, false), spec, WordLayout::kDense, WordLayout::kDense, "x"));
    expect_same(unpack_mlx(pack_mlx(linear), spec, DType::kF32, "x"));
    if (GetParam() == 4) expect_same(unpack_awq(pack_awq(linear), spec, "x"));
  }
}

}  // namespace
}  // namespace crumb::formats
