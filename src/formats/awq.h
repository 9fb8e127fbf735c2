// AWQ's "gemm" layout: the parts of one linear at 4 bits. docs/formats/awq.md.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "quant/quantized_linear.h"

namespace crumb::formats {

/// As the file has them: packed along N, and eight outputs of a word in the order 0, 2, 4, 6, 1, 3, 5, 7 from
/// the least significant nibble on.
struct AwqParts {
  std::int64_t n = 0, k = 0;
  std::vector<std::uint32_t> qweight;  // [K, N/8]
  std::vector<std::uint32_t> qzeros;   // [K/G, N/8], zero points as they are
  std::vector<float> scales;           // [K/G, N]
};

/// Throws InvalidArgument unless bits is 4 and N a multiple of 8.
AwqParts pack_awq(const quant::QuantizedLinear& linear);

/// Sizes are checked against n, k and the spec (Corrupt, naming `name`); N that is no multiple of 8 or bits
/// other than 4: Unsupported.
quant::QuantizedLinear unpack_awq(const AwqParts& parts, const quant::AffineSpec& spec,
                                  std::string_view name);

}  // namespace crumb::formats
