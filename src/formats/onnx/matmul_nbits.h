// Quantized linears as ONNX Runtime's MatMulNBits takes them (com.microsoft, version 1).
// docs/formats/onnx.md.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "quant/quantized_linear.h"

namespace crumb::formats {

/// y = x w_hat^T with w_hat = (code - zero point) * scale in blocks along K. Codes of a block are one
/// little-endian bit stream, the first in the lowest bits; ONNX Runtime 1.31 runs 2, 4 and 8 bits on CPUs.
struct MatMulNBits {
  std::int64_t n = 0, k = 0, block = 0, blocks = 0;  // blocks: of a row, the last one possibly padded
  int bits = 0;
};

/// The operator's shape for a linear, or why there is none. 3-bit codes are stored in 4 bits with their zero
/// points; a block is the largest power of two from 16 to 256 that divides the group, whose scale is
/// repeated.
struct MatMulNBitsFit {
  std::optional<MatMulNBits> op;
  std::string reason;  // empty when there is one
};
MatMulNBitsFit fit_matmul_nbits(std::int64_t n, std::int64_t k, const quant::AffineSpec& spec);

std::vector<std::byte> matmul_nbits_codes(
    const MatMulNBits& op, const quant::QuantizedLinear& linear);  // [N, blocks, block * bits / 8]
std::vector<std::byte> matmul_nbits_scales(const MatMulNBits& op,
                                           const quant::QuantizedLinear& linear);  // [N, blocks] f32
std::vector<std::byte> matmul_nbits_zeros(const MatMulNBits& op,
                                          const quant::QuantizedLinear& linear);  // [N, zero_bytes]
/// Bytes of a row of zero points: ceil(blocks * bits / 8).
std::int64_t matmul_nbits_zero_bytes(const MatMulNBits& op);

/// The inverse: codes [N, K] at `op.bits` in groups of one block. Throws Corrupt when sizes do not fit.
quant::QuantizedLinear unpack_matmul_nbits(const MatMulNBits& op, std::span<const std::byte> codes,
                                           std::span<const std::byte> scales,
                                           std::span<const std::byte> zeros, std::string_view name);

}  // namespace crumb::formats
