// GGUF types whose weights are whole numbers times one scale a block, and quantized linears seen so.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "formats/gguf_types.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// A type whose values are whole numbers times one scale.
struct WholeType {
  std::string_view name;
  int least, most;
  void (*put)(const std::uint8_t* codes, float d, std::byte* block);  // codes are value - least
};
/// Q2_0, Q4_0, Q5_0, Q8_0; nullptr for others.
const WholeType* find_whole(const GgufType& type);

/// `count` columns of one row as whole numbers times d.
struct Whole {
  float d = 0;
  int grid_least = 0, grid_most = 0;  // what codes of these zero points may give
  std::array<int, 256> values;

  /// 1 or -1: values times it lie in least … most. By the grid first, so that the codes of a tensor whose
  /// zero points fit have one meaning; 0 when the values themselves do not fit either.
  int sign(std::int64_t count, int least, int most) const;
};

/// nullopt when two groups of the block have scales that differ in more than the sign.
std::optional<Whole> read_whole(const quant::QuantizedLinear& linear, std::int64_t row, std::int64_t first,
                                std::int64_t count);

}  // namespace crumb::formats
