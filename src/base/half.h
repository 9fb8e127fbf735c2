// The scalar truth for 16-bit floats. Round half to even; overflow gives infinity; NaN stays NaN.
#pragma once
#include <bit>
#include <cstdint>

namespace crumb {

/// IEEE binary16 bits of `value`.
std::uint16_t float_to_f16(float value) noexcept;
float f16_to_float(std::uint16_t bits) noexcept;

/// bfloat16 bits of `value`: the upper half of binary32, rounded.
inline std::uint16_t float_to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // NaN stays NaN
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline float bf16_to_float(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// `value` rounded to the nearest binary16 number.
inline float round_to_f16(float value) noexcept {
  return f16_to_float(float_to_f16(value));
}

}  // namespace crumb
