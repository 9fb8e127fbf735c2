#include "formats/gguf_whole.h"

#include <algorithm>
#include <cmath>

#include "formats/gguf_blocks.h"

namespace crumb::formats {

using quant::QuantizedLinear;

namespace {

constexpr WholeType kWholeTypes[] = {{"Q2_0", -1, 2, put_q2_0},
                                     {"Q4_0", -8, 7, put_q4_0},
                                     {"Q5_0", -16, 15, put_q5_0},
                                     {"Q8_0", -128, 127, put_q8_0}};

}  // namespace

const WholeType* find_whole(const GgufType& type) {
  const auto found = std::find_if(std::begin(kWholeTypes), std::end(kWholeTypes),
                                  [&](const WholeType& whole) { return whole.name == type.name; });
  return found == std::end(kWholeTypes) ? nullptr : found;
}

int Whole::sign(std::int64_t count, int least, int most) const {
  const auto [low, high] = std::minmax_element(values.begin(), values.begin() + count);
  for (const auto& [from, to] : {std::pair{grid_least, grid_most}, {*low, *high}}) {
    if (least <= from && to <= most) return 1;
    if (least <= -to && -from <= most) return -1;
  }
  return 0;
}

std::optional<Whole> read_whole(const QuantizedLinear& linear, std::int64_t row, std::int64_t first,
                                std::int64_t count) {
  const std::int64_t group = linear.spec.group_of(linear.k), groups = linear.k / group;
  Whole out;
  out.d = linear.scales[static_cast<std::size_t>(row * groups + first / group)];
  for (std::int64_t i = 0; i < count;) {
    const std::int64_t column = first + i,
                       end = std::min(count, (column / group + 1) * group - first);  // of the group
    const auto at = static_cast<std::size_t>(row * groups + column / group);
    const float scale = linear.scales[at];
    if (std::abs(scale) != std::abs(out.d)) return std::nullopt;
    const int zero = linear.zero_points[at], sign = scale == out.d ? 1 : -1,
              ends[] = {sign * -zero, sign * (linear.spec.max_code() - zero)};
    out.grid_least = std::min({out.grid_least, ends[0], ends[1]});
    out.grid_most = std::max({out.grid_most, ends[0], ends[1]});
    for (; i < end; ++i) {
      const int code = linear.codes[static_cast<std::size_t>(row * linear.k + first + i)];
      out.values[static_cast<std::size_t>(i)] = sign * (code - zero);
    }
  }
  return out;
}

}  // namespace crumb::formats
