// K-quants of a quantized linear: their own small scales, found by least squares.
#pragma once
#include <cstddef>
#include <cstdint>

#include "formats/gguf_types.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// One row in Q2_K, Q3_K or Q4_K. Codes are the linear's own (complemented in groups of negative scale, since
/// scales of sub-blocks are not negative in Q2_K and Q4_K); only scales and offsets are rounded.
///
///   minimize  sum over the 256 weights of ((d sc) code - dmin mn - w_hat)^2
///
/// over d = S / t, S the largest scale and t = 1 … 15 (Q2_K), 31 (Q3_K), 63 (Q4_K), sc the nearest integer to
/// scale / d, and dmin = M / t of the largest offset M, mn the integer of least error for this d and sc. A
/// block of one group is exact: sc = 1, d = dmin = scale, mn = zero point.
///
/// The linear is one that gguf_fit() calls exact or near in `type`.
void put_row_k(const quant::QuantizedLinear& linear, const GgufType& type, std::int64_t row, std::byte* out);

}  // namespace crumb::formats
