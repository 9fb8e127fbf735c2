// Linears as MatMulNBits takes them: golden bytes that ONNX Runtime computed with, the round trip, what does
// not fit.
#include "formats/onnx/matmul_nbits.h"

#include <gtest/gtest.h>

#include "support/codes_checkpoint.h"
#include "support/expect_error.h"

namespace crumb::formats {
namespace {

quant::AffineSpec spec_of(int bits, std::int64_t group) {
  return {bits, group, quant::Grid::kAsym};
}
quant::QuantizedLinear random_codes(std::int64_t n, std::int64_t k, const quant::AffineSpec& spec) {
  return test::random_codes(n, k, spec, test::Zeros::kAny, 3);
}

std::vector<int> numbers(const std::vector<std::byte>& bytes) {
  std::vector<int> out;
  for (const std::byte b : bytes) out.push_back(std::to_integer<int>(b));
  return out;
}

TEST(MatMulNBits, CodesOfABlockAreOneStreamFromTheLowestBits) {
  quant::QuantizedLinear linear = random_codes(1, 16, spec_of(4, 16));
  for (int i = 0; i < 16; ++i) linear.codes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i % 8);
  const MatMulNBits four = fit_matmul_nbits(1, 16, linear.spec).op.value();
  EXPECT_EQ(numbers(matmul_nbits_codes(four, linear)),
            (std::vector<int>{0x10, 0x32, 0x54, 0x76, 0x10, 0x32, 0x54, 0x76}));
  linear.spec.bits = 2;
  const std::uint8_t codes[] = {3, 2, 1, 0, 0, 1, 2, 3};
  for (int i = 0; i < 16; ++i) linear.codes[static_cast<std::size_t>(i)] = codes[i % 8];
  const MatMulNBits two = fit_matmul_nbits(1, 16, linear.spec).op.value();
  EXPECT_EQ(numbers(matmul_nbits_codes(two, linear)), (std::vector<int>{0x1b, 0xe4, 0x1b, 0xe4}));
}

TEST(MatMulNBits, ZeroPointsOfARowFillBytes) {
  quant::QuantizedLinear linear = random_codes(1, 48, spec_of(4, 16));
  linear.zero_points = {3, 5, 7};
  EXPECT_EQ(numbers(matmul_nbits_zeros(fit_matmul_nbits(1, 48, linear.spec).op.value(), linear)),
            (std::vector<int>{0x53, 0x07}));
  linear = random_codes(1, 80, spec_of(2, 16));
  linear.zero_points = {1, 2, 3, 1, 2};
  EXPECT_EQ(numbers(matmul_nbits_zeros(fit_matmul_nbits(1, 80, linear.spec).op.value(), linear)),
            (std::vector<int>{0x79, 0x02}));
}

TEST(MatMulNBits, ComesBackWithTheSameWeights) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {16, 32, 64, 96, 128, -1}) {
      const std::int64_t n = 5, k = 384;
      const quant::QuantizedLinear linear = random_codes(n, k, spec_of(bits, group));
      const MatMulNBits op = fit_matmul_nbits(n, k, linear.spec).op.value();
      EXPECT_EQ(op.bits, bits == 3 ? 4 : bits);
      EXPECT_EQ(op.blocks * op.block, k);
      const quant::QuantizedLinear back =
          unpack_matmul_nbits(op, matmul_nbits_codes(op, linear), matmul_nbits_scales(op, linear),
                              matmul_nbits_zeros(op, linear), "w");
      EXPECT_EQ(quant::dequantize(back), quant::dequantize(linear)) << bits << " bits, groups of " << group;
    }
  }
}

TEST(MatMulNBits, TheBlockIsTheLargestPowerOfTwoThatDividesTheGroup) {
  const auto block = [](std::int64_t k, std::int64_t group) {
    return fit_matmul_nbits(8, k, spec_of(2, group)).op.value().block;
  };
  EXPECT_EQ(block(576, 64), 64);
  EXPECT_EQ(block(576, -1), 64);
  EXPECT_EQ(block(4096, -1), 256);
  EXPECT_EQ(block(4096, 128), 128);
  EXPECT_EQ(block(480, 96), 32);
}

TEST(MatMulNBits, SaysWhyAGroupDoesNotFit) {
  const MatMulNBitsFit fit = fit_matmul_nbits(8, 120, spec_of(2, 40));
  EXPECT_FALSE(fit.op);
  EXPECT_NE(fit.reason.find("groups of 40"), std::string::npos) << fit.reason;
}

TEST(MatMulNBits, RefusesPartsOfAnotherSize) {
  const quant::QuantizedLinear linear = random_codes(3, 64, spec_of(2, 32));
  const MatMulNBits op = fit_matmul_nbits(3, 64, linear.spec).op.value();
  std::vector<std::byte> codes = matmul_nbits_codes(op, linear), scales = matmul_nbits_scales(op, linear),
                         zeros = matmul_nbits_zeros(op, linear);
  codes.pop_back();
  test::expect_error(ErrorKind::kCorrupt, {"w", "bytes of codes", "want 48"},
                     [&] { unpack_matmul_nbits(op, codes, scales, zeros, "w"); });
}

}  // namespace
}  // namespace crumb::formats
