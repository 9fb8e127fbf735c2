#include "formats/onnx/matmul_nbits.h"

#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "quant/codes.h"

namespace crumb::formats {
namespace {

constexpr std::string_view kWhere = "formats.onnx";

// Rows of `count` values of `bits` bits, each row begun at a byte.
std::vector<std::byte> pack_bytes(const std::uint8_t* values, std::int64_t rows, std::int64_t count,
                                  int bits) {
  const std::int64_t row_bytes = (count * bits + 7) / 8,
                     words = quant::packed_words(count, bits, quant::WordLayout::kDense);
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * row_bytes));
  std::vector<std::uint32_t> row(static_cast<std::size_t>(words));
  for (std::int64_t i = 0; i < rows; ++i) {
    quant::pack_codes(values + i * count, 1, count, bits, quant::WordLayout::kDense, row.data(), 1);
    std::memcpy(bytes.data() + i * row_bytes, row.data(), static_cast<std::size_t>(row_bytes));
  }
  return bytes;
}

std::vector<std::uint8_t> unpack_bytes(std::span<const std::byte> bytes, std::int64_t rows,
                                       std::int64_t count, int bits) {
  const std::int64_t row_bytes = (count * bits + 7) / 8,
                     words = quant::packed_words(count, bits, quant::WordLayout::kDense);
  std::vector<std::uint8_t> values(static_cast<std::size_t>(rows * count));
  std::vector<std::uint32_t> row(static_cast<std::size_t>(words));
  for (std::int64_t i = 0; i < rows; ++i) {
    std::memcpy(row.data(), bytes.data() + i * row_bytes, static_cast<std::size_t>(row_bytes));
    quant::unpack_codes(row.data(), 1, count, bits, quant::WordLayout::kDense, values.data() + i * count, 1);
  }
  return values;
}

// A value of each group for each of its blocks, [N, blocks].
template <class T>
std::vector<T> repeated(const MatMulNBits& op, const quant::QuantizedLinear& linear,
                        const std::vector<T>& of_groups) {
  const std::int64_t group = linear.spec.group_of(linear.k), groups = linear.k / group;
  std::vector<T> out(static_cast<std::size_t>(op.n * op.blocks));
  for (std::int64_t n = 0; n < op.n; ++n) {
    for (std::int64_t j = 0; j < op.blocks; ++j)
      out[static_cast<std::size_t>(n * op.blocks + j)] =
          of_groups[static_cast<std::size_t>(n * groups + j * op.block / group)];
  }
  return out;
}

}  // namespace

MatMulNBitsFit fit_matmul_nbits(std::int64_t n, std::int64_t k, const quant::AffineSpec& spec) {
  const std::int64_t group = spec.group_of(k);
  std::int64_t block = 1;
  while (block < 256 && group % (2 * block) == 0) block *= 2;
  if (block < 16) {
    return {{},
            cat("groups of ", group,
                "; ONNX Runtime wants blocks of a power of two from 16 to 256, and none "
                "divides them")};
  }
  return {MatMulNBits{n, k, block, k / block, spec.bits == 3 ? 4 : spec.bits}, ""};
}

std::int64_t matmul_nbits_zero_bytes(const MatMulNBits& op) {
  return (op.blocks * op.bits + 7) / 8;
}

std::vector<std::byte> matmul_nbits_codes(const MatMulNBits& op, const quant::QuantizedLinear& linear) {
  CRUMB_CHECK(linear.n == op.n && linear.k == op.k && op.k == op.blocks * op.block);
  return pack_bytes(linear.codes.data(), op.n * op.blocks, op.block, op.bits);
}

std::vector<std::byte> matmul_nbits_scales(const MatMulNBits& op, const quant::QuantizedLinear& linear) {
  const std::vector<float> scales = repeated(op, linear, linear.scales);
  const auto bytes = std::as_bytes(std::span(scales));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> matmul_nbits_zeros(const MatMulNBits& op, const quant::QuantizedLinear& linear) {
  const std::vector<std::uint8_t> zeros = repeated(op, linear, linear.zero_points);
  return pack_bytes(zeros.data(), op.n, op.blocks, op.bits);
}

quant::QuantizedLinear unpack_matmul_nbits(const MatMulNBits& op, std::span<const std::byte> codes,
                                           std::span<const std::byte> scales,
                                           std::span<const std::byte> zeros, std::string_view name) {
  const auto want = [&](std::span<const std::byte> bytes, std::int64_t size, const char* what) {
    if (static_cast<std::int64_t>(bytes.size()) != size) {
      fail(ErrorKind::kCorrupt, kWhere, name, ": ", bytes.size(), " bytes of ", what, "; want ", size,
           " for [", op.n, ", ", op.k, "] at ", op.bits, " bits in blocks of ", op.block);
    }
  };
  want(codes, op.n * op.blocks * op.block * op.bits / 8, "codes");
  want(scales, op.n * op.blocks * 4, "scales");
  want(zeros, op.n * matmul_nbits_zero_bytes(op), "zero points");
  quant::QuantizedLinear linear;
  linear.n = op.n;
  linear.k = op.k;
  linear.spec.bits = op.bits;
  linear.spec.group_size = op.block;
  linear.spec.grid = quant::Grid::kAsym;
  linear.codes = unpack_bytes(codes, op.n * op.blocks, op.block, op.bits);
  linear.scales.resize(static_cast<std::size_t>(op.n * op.blocks));
  std::memcpy(linear.scales.data(), scales.data(), scales.size());
  linear.zero_points = unpack_bytes(zeros, op.n, op.blocks, op.bits);
  quant::check_quantized_linear(linear, name);
  return linear;
}

}  // namespace crumb::formats
