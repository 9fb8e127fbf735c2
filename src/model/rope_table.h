// Rotary positions as numbers: what every engine multiplies queries and keys with.
#pragma once
#include <cstdint>

#include "model/config.h"

namespace crumb::model {

/// cos, sin (out) [count, head_dim / 2] f32 of positions first … first + count - 1, times attention_scaling.
/// The angle is an f32 product of f32 position and f32 frequency, as Hugging Face's: the same rounding keeps
/// long positions equal to it. cos and sin are computed in f64.
void fill_rope_table(const RopeFrequencies& frequencies, std::int64_t first, std::int64_t count, float* cos,
                     float* sin);

}  // namespace crumb::model
