// The scale as a file will hold it, for methods that choose codes afterwards.
#pragma once
#include <algorithm>

#include "base/half.h"

namespace crumb::quant {

/// The smallest normal binary16 number: below it a stored scale would lose digits.
inline constexpr float kMinStoredScale = 0x1p-14f;

/// `scale` >= 0 itself, or (`f16`) the nearest binary16 number, at least kMinStoredScale.
inline float stored_scale(float scale, bool f16) noexcept {
  return f16 ? std::max(round_to_f16(scale), kMinStoredScale) : scale;
}

}  // namespace crumb::quant
