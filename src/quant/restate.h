// The same weight in other codes, where a format asks for them; and the nearest one where it has none.
#pragma once
#include <cstdint>

#include "quant/quantized_linear.h"

namespace crumb::quant {

/// Every group cut into groups of `group_size` with the same scale and zero point; w_hat stays.
/// CRUMB_CHECKs that group_size divides the group.
QuantizedLinear split_groups(QuantizedLinear linear, std::int64_t group_size);

/// Groups whose zero point is neither 2^(bits-1) nor one below it; 0 means that make_symmetric can be called.
std::int64_t asymmetric_groups(const QuantizedLinear& linear);
/// Groups of zero point 2^(bits-1) - 1 are complemented,
///
///   code' = max_code - code,  zero_point' = max_code - zero_point,  scale' = -scale
///
/// so that every zero point is 2^(bits-1) and w_hat stays. CRUMB_CHECKs that asymmetric_groups() is 0.
QuantizedLinear make_symmetric(QuantizedLinear linear);

/// The same codes, zero points and scales, called codes of `bits` >= spec.bits.
QuantizedLinear widen(QuantizedLinear linear, int bits);

/// The weight nearest to w_hat on another grid (bits, groups, zero points), as init_clip_search finds it,
/// with binary16 scales. Throws InvalidArgument as check_spec.
QuantizedLinear requantize(const QuantizedLinear& linear, const AffineSpec& spec);

/// make_symmetric() of any linear: groups whose zero point is another one are requantized, group by group,
/// with zero points 2^(bits-1) - 1 and 2^(bits-1) to choose from; all others keep their weights exactly.
QuantizedLinear nearest_symmetric(QuantizedLinear linear);

/// relative_error of the dequantized weights.
double relative_error(const QuantizedLinear& a, const QuantizedLinear& b);

}  // namespace crumb::quant
