// One code of a dense bit stream, for the reference and for groups that do not fill vectors.
#pragma once
#include <cstdint>

namespace crumb::kernels {
namespace {

inline int code_at(const std::uint32_t* words, std::int64_t index, int bits) {
  const std::int64_t bit = index * bits, word = bit / 32;
  const int shift = static_cast<int>(bit % 32);
  std::uint32_t value = words[word] >> shift;
  if (shift + bits > 32) value |= words[word + 1] << (32 - shift);
  return static_cast<int>(value & ((1u << bits) - 1u));
}

}  // namespace
}  // namespace crumb::kernels
