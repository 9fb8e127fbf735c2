// MLX's affine quantization: the parts of one matrix. docs/formats/mlx.md.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// As the file has them: w_hat = scale * code + bias, with bias = -zero_point * scale on crumb's grid.
struct MlxParts {
  std::int64_t n = 0, k = 0;
  std::vector<std::uint32_t> words;  // weight [N, K * bits / 32], each row a dense stream
  std::vector<float> scales;         // [N, K/G]
  std::vector<float> biases;         // [N, K/G]
};

/// Biases are exact products in f32. Throws InvalidArgument unless K * bits is a multiple of 32.
MlxParts pack_mlx(const quant::QuantizedLinear& linear);
/// Whether scales and biases of it are binary16 numbers.
bool fits_f16(const MlxParts& parts);

/// The zero point of a group is the integer next to -bias / scale. `stored` is the dtype of the biases: they
/// may differ from -zero_point * scale by what that dtype rounds (one unit in the last place: scale and bias
/// were rounded apart). Throws Unsupported with the linear's name and the group where they differ more, or
/// the zero point lies outside of 0 … 2^bits - 1; Corrupt where sizes do not fit.
quant::QuantizedLinear unpack_mlx(const MlxParts& parts, const quant::AffineSpec& spec, DType stored,
                                  std::string_view name);

/// scale * code + bias of any biases; for embeddings and heads, which crumb holds as floats.
std::vector<float> dequantize_mlx(const MlxParts& parts, int bits, std::int64_t group_size);

}  // namespace crumb::formats
