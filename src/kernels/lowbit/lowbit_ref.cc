// The truth: one row, one token, one weight at a time, in the order of the contract.
#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "kernels/lowbit.h"
#include "kernels/lowbit/layout.h"

namespace crumb::kernels {
namespace {

int byte_at(const std::byte* p, std::int64_t i) {
  return std::to_integer<int>(p[i]);
}

/// Code of k (counted in the group) of a row.
int code_at(const std::byte* codes, std::int64_t row, std::int64_t k, int bits) {
  const std::byte* const step = codes + k / kStep * 64 * bits + row * 4 + k % 4;
  const std::int64_t quad = k % kStep / 4;
  if (bits == 8) return byte_at(step, quad * 64);
  if (bits == 4) return byte_at(step, quad / 2 * 64) >> 4 * (quad % 2) & 15;
  if (bits == 6) {
    return (byte_at(step, quad / 2 * 64) >> 4 * (quad % 2) & 15) |
           (byte_at(step, 256 + quad / 4 * 64) >> 2 * (quad % 4) & 3) << 4;
  }
  const int low = byte_at(step, quad / 4 * 64) >> 2 * (quad % 4) & 3;
  if (bits == 2) return low;
  const std::int64_t high = quad % 4 == 3 ? quad / 4 : 2 + 2 * (quad % 4) + quad / 4;
  return low | (byte_at(step, 128) >> high & 1) << 2;
}

int zero_point_at(const std::byte* zeros, std::int64_t row, const LowbitShape& shape) {
  if (shape.grid == quant::Grid::kSignedSym) return 1 << (shape.bits - 1);
  if (shape.bits >= 6) return byte_at(zeros, row);
  if (shape.bits == 2) return byte_at(zeros, row / 4) >> 2 * (row % 4) & 3;
  return byte_at(zeros, row % 2 * 4 + row / 4) >> 4 * (row / 2 % 2) & 15;
}

float scale_at(const std::byte* scales, std::int64_t row) {
  std::uint16_t half = 0;
  std::memcpy(&half, scales + 2 * row, 2);
  return f16_to_float(half);
}

void prepare_chunk(const float* x, std::int64_t count, std::int8_t* codes, float& scale, std::int32_t& sum) {
  float absmax = 0;
  bool finite = true;
  for (std::int64_t j = 0; j < count; ++j) {
    finite = finite && std::isfinite(x[j]);
    absmax = std::fmax(absmax, std::fabs(x[j]));
  }
  sum = 0;
  scale = !finite ? std::numeric_limits<float>::quiet_NaN() : absmax < 0x1p-100f ? 0.0f : absmax / 127.0f;
  const float inverse = scale > 0 ? 127.0f / absmax : 0.0f;
  for (std::int64_t j = 0; j < count; ++j) {
    codes[j] = finite ? static_cast<std::int8_t>(std::nearbyint(x[j] * inverse)) : std::int8_t{0};
    sum += codes[j];
  }
}

void prepare(const float* x, std::int64_t ldx, const LowbitActivations& out, std::int64_t begin,
             std::int64_t end) noexcept {
  const LowbitGeometry g = lowbit_geometry({1, out.k, out.group_size, 8, quant::Grid::kAsym});
  const std::int64_t padded = g.steps * kStep;
  for (std::int64_t m = begin; m < end; ++m) {
    for (std::int64_t group = 0; group < g.groups; ++group) {
      const float* const from = x + m * ldx + group * out.group_size;
      const std::int64_t at = m * out.stride + activation_offset(g, group);
      for (std::int64_t j = 0; j < padded; ++j) {
        if (out.mode == LowbitMode::kExact)
          out.values[at + j] = j < out.group_size ? from[j] : 0.0f;
        else
          out.codes[at + j] = 0;
      }
      if (out.mode == LowbitMode::kExact) continue;
      for (std::int64_t c = 0; c < g.chunks; ++c) {
        const std::int64_t chunk = m * out.chunks + group * g.chunks + c, left = out.group_size - c * kChunk;
        prepare_chunk(from + c * kChunk, left < kChunk ? left : kChunk, out.codes + at + c * kChunk,
                      out.scales[chunk], out.sums[chunk]);
      }
    }
  }
}

float int8_row(const LowbitShape& shape, const LowbitGeometry& g, const std::byte* tile, std::int64_t row,
               const LowbitActivations& x, std::int64_t m) {
  float y = 0;
  for (GroupWalk at(g); !at.done(); at.next()) {
    const float scale = scale_at(tile + at.scales, row);
    const int zero_point = zero_point_at(tile + at.zeros, row, shape);
    for (std::int64_t c = 0; c < g.chunks; ++c) {
      std::int32_t sum = 0;
      for (std::int64_t j = c * kChunk; j < shape.group_size && j < (c + 1) * kChunk; ++j) {
        sum += (code_at(tile + at.codes, row, j, shape.bits) - zero_point) *
               x.codes[m * x.stride + activation_offset(g, at.group) + j];
      }
      y = std::fma(static_cast<float>(sum), scale * x.scales[m * x.chunks + at.group * g.chunks + c], y);
    }
  }
  return y;
}

float exact_row(const LowbitShape& shape, const LowbitGeometry& g, const std::byte* tile, std::int64_t row,
                const LowbitActivations& x, std::int64_t m) {
  float y = 0;
  for (GroupWalk at(g); !at.done(); at.next()) {
    const int zero_point = zero_point_at(tile + at.zeros, row, shape);
    float d[4] = {0, 0, 0, 0};
    for (std::int64_t j = 0; j < shape.group_size; ++j) {
      d[j % 4] = std::fma(static_cast<float>(code_at(tile + at.codes, row, j, shape.bits) - zero_point),
                          x.values[m * x.stride + activation_offset(g, at.group) + j], d[j % 4]);
    }
    y = std::fma((d[0] + d[1]) + (d[2] + d[3]), scale_at(tile + at.scales, row), y);
  }
  return y;
}

using RowFunction = float (*)(const LowbitShape&, const LowbitGeometry&, const std::byte*, std::int64_t,
                              const LowbitActivations&, std::int64_t);

template <RowFunction row_function>
void multiply(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin, std::int64_t end,
              float* y, std::int64_t ldy) noexcept {
  const LowbitGeometry g = lowbit_geometry(w.shape);
  for (std::int64_t m = 0; m < x.m; ++m) {
    for (std::int64_t n = begin * kRows; n < end * kRows && n < w.shape.n; ++n)
      y[m * ldy + n] = row_function(w.shape, g, w.data + n / kRows * g.tile_bytes, n % kRows, x, m);
  }
}

}  // namespace

const LowbitFunctions* lowbit_ref() noexcept {
  static constexpr LowbitFunctions kFunctions = {prepare, {multiply<int8_row>, multiply<exact_row>}};
  return &kFunctions;
}

}  // namespace crumb::kernels
