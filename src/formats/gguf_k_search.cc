#include "formats/gguf_k_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/half.h"
#include "formats/gguf_blocks.h"

namespace crumb::formats {
namespace {

using quant::QuantizedLinear;

constexpr int kBlock = 256, kMostSubBlocks = 16;
/// Candidates of d that are tried with every dmin, the best by scale alone: all of Q2_K's. All 63 of Q4_K's
/// would take four times as long and lower its deviation at groups of 64 from 0.466 % to 0.465 % (measured).
constexpr std::size_t kKeptScales = 15;

/// A sub-block: w_hat = scale * code - offset, scale >= 0.
struct SubBlock {
  double scale = 0, offset = 0;
  double count = 0, sum = 0, squares = 0;  // of the codes
};

struct KBlock {
  std::array<std::uint8_t, kBlock> codes;
  std::array<SubBlock, kMostSubBlocks> subs;
  int sub_blocks = 0;
  bool one_group = false;
  float scale = 0;     // of the one group
  int zero_point = 0;  // of the one group, in terms of `codes`
};

KBlock read_block(const QuantizedLinear& linear, std::int64_t row, std::int64_t first, int sub_blocks) {
  const std::int64_t group = linear.spec.group_of(linear.k), groups = linear.k / group;
  const int size = kBlock / sub_blocks, top = linear.spec.max_code();
  KBlock block;
  block.sub_blocks = sub_blocks;
  block.one_group = group % kBlock == 0;
  for (int j = 0; j < sub_blocks; ++j) {
    const std::int64_t column = first + j * size;
    const auto at = static_cast<std::size_t>(row * groups + column / group);
    const float scale = linear.scales[at];
    const bool flip = scale < 0;
    const int zero = flip ? top - linear.zero_points[at] : linear.zero_points[at];
    SubBlock& sub = block.subs[static_cast<std::size_t>(j)];
    sub.scale = std::abs(static_cast<double>(scale));
    sub.offset = sub.scale * zero;
    sub.count = size;
    for (int i = 0; i < size; ++i) {
      const int stored = linear.codes[static_cast<std::size_t>(row * linear.k + column + i)];
      const int code = flip ? top - stored : stored;
      block.codes[static_cast<std::size_t>(j * size + i)] = static_cast<std::uint8_t>(code);
      sub.sum += code;
      sub.squares += code * code;
    }
    block.scale = static_cast<float>(sub.scale);
    block.zero_point = zero;
  }
  return block;
}

struct ScaledBlock {
  double error = std::numeric_limits<double>::infinity();
  float d = 0, dmin = 0;
  std::array<int, kMostSubBlocks> sc{}, mn{};
};

float half_step(double largest, int t) {
  return round_to_f16(static_cast<float>(largest / t));
}

int nearest(double value, double step, int low, int high) {
  if (step == 0) return std::clamp(0, low, high);
  return static_cast<int>(
      std::clamp(std::nearbyint(value / step), static_cast<double>(low), static_cast<double>(high)));
}

/// dmin and mn of least error, the scales given. Over a sub-block, with a = d sc - scale and b = dmin mn -
/// offset, the error is a^2 sum(code^2) - 2 a b sum(code) + b^2 count, least at b = a mean(code).
void search_minima(const KBlock& block, int most, ScaledBlock& scaled, ScaledBlock& best) {
  double largest = 0;
  std::array<double, kMostSubBlocks> wanted;
  for (int j = 0; j < block.sub_blocks; ++j) {
    const SubBlock& sub = block.subs[static_cast<std::size_t>(j)];
    const double a = static_cast<double>(scaled.d) * scaled.sc[static_cast<std::size_t>(j)] - sub.scale;
    wanted[static_cast<std::size_t>(j)] = std::max(sub.offset + a * sub.sum / sub.count, 0.0);
    largest = std::max(largest, wanted[static_cast<std::size_t>(j)]);
  }
  for (int t = 1; t <= most; ++t) {
    scaled.dmin = half_step(largest, t);
    scaled.error = 0;
    for (int j = 0; j < block.sub_blocks; ++j) {
      const auto at = static_cast<std::size_t>(j);
      const SubBlock& sub = block.subs[at];
      scaled.mn[at] = nearest(wanted[at], static_cast<double>(scaled.dmin), 0, most);
      const double a = static_cast<double>(scaled.d) * scaled.sc[at] - sub.scale,
                   b = static_cast<double>(scaled.dmin) * scaled.mn[at] - sub.offset;
      scaled.error += a * a * sub.squares - 2 * a * b * sub.sum + b * b * sub.count;
    }
    if (scaled.error < best.error) best = scaled;
    if (largest == 0) return;
  }
}

ScaledBlock search(const KBlock& block, int most) {
  double largest = 0;
  for (int j = 0; j < block.sub_blocks; ++j)
    largest = std::max(largest, block.subs[static_cast<std::size_t>(j)].scale);
  std::vector<ScaledBlock> candidates;
  for (int t = 1; t <= most; ++t) {
    ScaledBlock scaled;
    scaled.d = half_step(largest, t);
    scaled.error = 0;
    for (int j = 0; j < block.sub_blocks; ++j) {
      const auto at = static_cast<std::size_t>(j);
      const SubBlock& sub = block.subs[at];
      scaled.sc[at] = nearest(sub.scale, static_cast<double>(scaled.d), 0, most);
      // The offset may follow the mean, so only the spread of the codes counts.
      const double a = static_cast<double>(scaled.d) * scaled.sc[at] - sub.scale;
      scaled.error += a * a * (sub.squares - sub.sum * sub.sum / sub.count);
    }
    candidates.push_back(scaled);
  }
  const auto kept = static_cast<std::ptrdiff_t>(std::min(candidates.size(), kKeptScales));
  std::partial_sort(candidates.begin(), candidates.begin() + kept, candidates.end(),
                    [](const ScaledBlock& a, const ScaledBlock& b) { return a.error < b.error; });
  ScaledBlock best;
  for (auto it = candidates.begin(); it != candidates.begin() + kept; ++it)
    search_minima(block, most, *it, best);
  return best;
}

void put_with_minima(const KBlock& block, bool four_bits, std::byte* out) {
  ScaledBlock scaled;
  if (block.one_group) {
    scaled.d = scaled.dmin = block.scale;
    scaled.sc.fill(1);
    scaled.mn.fill(block.zero_point);
  } else {
    scaled = search(block, four_bits ? 63 : 15);
  }
  (four_bits ? put_q4_k : put_q2_k)(block.codes.data(), scaled.sc.data(), scaled.mn.data(), scaled.d,
                                    scaled.dmin, out);
}

/// Q3_K has no offsets: w_hat = scale (code - 4), scales of either sign.
void put_q3(const QuantizedLinear& linear, std::int64_t row, std::int64_t first, std::byte* out) {
  const std::int64_t group = linear.spec.group_of(linear.k), groups = linear.k / group;
  std::array<std::uint8_t, kBlock> codes;
  std::array<double, kMostSubBlocks> scales, squares{};
  for (std::size_t j = 0; j < kMostSubBlocks; ++j) {
    const std::int64_t column = first + static_cast<std::int64_t>(j) * 16;
    const auto at = static_cast<std::size_t>(row * groups + column / group);
    const int zero = linear.zero_points[at], top = linear.spec.max_code();
    std::array<int, 16> values;
    for (std::size_t i = 0; i < 16; ++i)
      values[i] = linear.codes[static_cast<std::size_t>(row * linear.k + column) + i] - zero;
    // Negated where the grid fits only so, else where the values do.
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    const bool grid_direct = zero <= 4 && top - zero <= 3, grid_negated = zero <= 3 && top - zero <= 4;
    const bool direct = grid_direct || (!grid_negated && *low >= -4 && *high <= 3);
    const int sign = direct ? 1 : -1;
    scales[j] = sign * static_cast<double>(linear.scales[at]);
    for (std::size_t i = 0; i < 16; ++i) {
      codes[16 * j + i] = static_cast<std::uint8_t>(sign * values[i] + 4);
      squares[j] += values[i] * values[i];
    }
  }
  double largest = 0;
  for (const double scale : scales) largest = std::max(largest, std::abs(scale));
  ScaledBlock best;
  for (int t = 1; t <= 31; ++t) {
    ScaledBlock scaled;
    scaled.d = half_step(largest, t);
    scaled.error = 0;
    for (std::size_t j = 0; j < kMostSubBlocks; ++j) {
      scaled.sc[j] = nearest(scales[j], static_cast<double>(scaled.d), -32, 31);
      const double a = static_cast<double>(scaled.d) * scaled.sc[j] - scales[j];
      scaled.error += a * a * squares[j];
    }
    if (scaled.error < best.error) best = scaled;
  }
  put_q3_k(codes.data(), best.sc.data(), best.d, out);
}

}  // namespace

void put_row_k(const QuantizedLinear& linear, const GgufType& type, std::int64_t row, std::byte* out) {
  CRUMB_CHECK(type.name == "Q2_K" || type.name == "Q3_K" || type.name == "Q4_K");
  for (std::int64_t column = 0; column < linear.k; column += kBlock, out += type.block_bytes) {
    if (type.name == "Q3_K") {
      put_q3(linear, row, column, out);
    } else {
      const bool four_bits = type.name == "Q4_K";
      put_with_minima(read_block(linear, row, column, four_bits ? 8 : 16), four_bits, out);
    }
  }
}

}  // namespace crumb::formats
