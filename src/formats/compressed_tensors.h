// compressed-tensors' "pack-quantized" and "int-quantized": the parts of one linear.
// docs/formats/compressed_tensors.md.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "quant/codes.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// As the file has them. The format speaks of signed codes q - 2^(bits-1) and adds 2^(bits-1) when it packs,
/// so the stored bits are unsigned codes and zero points.
struct CompressedParts {
  std::int64_t n = 0, k = 0;
  std::vector<std::uint32_t> packed;       // weight_packed [N, words(K)], each row for itself
  std::vector<float> scales;               // weight_scale [N, K/G], of either sign
  std::vector<std::uint32_t> zero_points;  // weight_zero_point [words(N), K/G]; empty: symmetric
};

/// Dense words. `symmetric` leaves zero points out: throws InvalidArgument unless all are 2^(bits-1).
CompressedParts pack_compressed(const quant::QuantizedLinear& linear, bool symmetric);

/// Sizes are checked against n, k and the spec (Corrupt, naming `name`). Without zero points all are
/// 2^(bits-1). Layouts: how weight_packed and weight_zero_point are packed.
quant::QuantizedLinear unpack_compressed(const CompressedParts& parts, const quant::AffineSpec& spec,
                                         quant::WordLayout layout, quant::WordLayout zero_layout,
                                         std::string_view name);

/// "int-quantized": one I8 a code, q - 2^(bits-1), as `weight` [N, K] and, unless symmetric,
/// `weight_zero_point` [N, K/G].
struct CompressedBytes {
  std::int64_t n = 0, k = 0;
  std::vector<std::int8_t> codes;
  std::vector<float> scales;  // weight_scale [N, K/G], of either sign
  std::vector<std::int8_t> zero_points;
};

/// As pack_compressed(linear, true).
CompressedBytes bytes_compressed(const quant::QuantizedLinear& linear);

/// As unpack_compressed(); Corrupt also for a number that is no code of the spec's bits.
quant::QuantizedLinear unpack_bytes_compressed(const CompressedBytes& parts, const quant::AffineSpec& spec,
                                               std::string_view name);

}  // namespace crumb::formats
