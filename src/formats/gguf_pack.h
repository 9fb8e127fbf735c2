// Which GGUF type holds a quantized linear, and its bytes in it. docs/formats/gguf.md has the decision table.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf_types.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// What one type makes of one linear.
enum class GgufHold {
  kExactly,  // dequantized, the bytes give quant::dequantize(linear) bit for bit, up to the sign of zero
  kNearly,   // codes kept, scales or offsets rounded
  kNot,
};
struct GgufFit {
  const GgufType* type = nullptr;
  GgufHold hold = GgufHold::kNot;
  std::string reason;  // why not exactly, with figures; empty when exactly
};

/// How `type` holds `linear`:
///
///   type   bytes    exactly when every block has one scale, a binary16 number, and      nearly
///   Q2_0   18/64    its values code - zero point, or their negatives, lie in -1 … 2     other scale; new
///                                                                     codes in at most 1 block of 10
///   Q2_K   84/256   2 bits                                                              groups of 16 k
///   Q3_K   110/256  values or their negatives in -4 … 3                                 groups of 16 k
///   Q4_0   18/32    values or their negatives in -8 … 7                                 other scale
///   Q4_K   144/256  2 to 4 bits                                                         groups of 32 k
///   Q4_1   20/32    2 to 4 bits, and the offset -zero_point * scale is binary16 too     other scale, offset
///   Q5_0   22/32    values or their negatives in -16 … 15                               other scale
///   Q8_0   34/32    values or their negatives in -128 … 127                             other scale
///   F16    2/1      w_hat is binary16 (no blocks)                                       rounded
///
/// A scale beyond binary16's range is held by none of them; other types hold nothing.
GgufFit gguf_fit(const quant::QuantizedLinear& linear, const GgufType& type);

/// The first type of the table, those with fewer bits than the linear left out, that holds `linear` exactly;
/// with `nearly` the first that holds it at all. Its reason says why none before it; when there is none, hold
/// is kNot and the reason says why for all.
GgufFit choose_gguf_type(const quant::QuantizedLinear& linear, bool nearly = false);

/// The bytes of `linear` in `type`, rows [N] of K / block_elements blocks. Exact where the type holds it
/// exactly; else K-quants take the scales and offsets of least squared error of w_hat (docs/formats/gguf.md),
/// blocks of Q2_0 whose values do not fit the scale and codes of least squared error, other types the nearest
/// binary16 numbers. Parallel over rows. Throws Unsupported, with the reason, where
/// it is held not at all. `name` is used in messages.
std::vector<std::byte> pack_gguf(const quant::QuantizedLinear& linear, const GgufType& type,
                                 std::string_view name);

/// F32, F16, BF16 (rounded half to even) or Q8_0 (for each 32 weights the scale max |w| / 127 in binary16,
/// then Q1) of float rows [N, K]; `first` is the index of values[0] in messages. Throws Numerics when a value
/// passes the type's range, InvalidArgument for another type or when 32 does not divide K.
std::vector<std::byte> pack_gguf_floats(std::span<const float> values, std::int64_t k, const GgufType& type,
                                        std::string_view name, std::int64_t first = 0);

}  // namespace crumb::formats
