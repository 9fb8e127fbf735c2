// QuantizedLinear into the layout and back.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "kernels/lowbit.h"
#include "kernels/lowbit/layout.h"

namespace crumb::kernels {
namespace {

constexpr std::string_view kWhere = "kernels.pack_lowbit";

/// Quads of a step at 3 bits: where unit 2 holds the high bit.
constexpr int kHighBit[8] = {2, 4, 6, 0, 3, 5, 7, 1};

/// The word of a row in one unit.
std::uint32_t* word(std::byte* unit, std::int64_t row) {
  return reinterpret_cast<std::uint32_t*>(unit) + row;
}

/// Puts the four codes of quad `quad` of a step, one a byte of `four`, into the row's words.
void put_quad(std::byte* step, std::int64_t row, int quad, int bits, std::uint32_t four) {
  switch (bits) {
    case 2:
      *word(step + quad / 4 * 64, row) |= four << 2 * (quad % 4);
      break;
    case 3:
      *word(step + quad / 4 * 64, row) |= (four & 0x03030303u) << 2 * (quad % 4);
      *word(step + 128, row) |= (four >> 2 & 0x01010101u) << kHighBit[quad];
      break;
    case 4:
      *word(step + quad / 2 * 64, row) |= four << 4 * (quad % 2);
      break;
    case 6:
      *word(step + quad / 2 * 64, row) |= (four & 0x0f0f0f0fu) << 4 * (quad % 2);
      *word(step + 256 + quad / 4 * 64, row) |= (four >> 4 & 0x03030303u) << 2 * (quad % 4);
      break;
    default:
      *word(step + quad * 64, row) = four;
  }
}

std::uint32_t get_quad(const std::byte* step, std::int64_t row, int quad, int bits) {
  const auto at = [&](int unit) {
    std::uint32_t w = 0;
    std::memcpy(&w, step + unit * 64 + row * 4, 4);
    return w;
  };
  switch (bits) {
    case 2:
      return at(quad / 4) >> 2 * (quad % 4) & 0x03030303u;
    case 3:
      return (at(quad / 4) >> 2 * (quad % 4) & 0x03030303u) | (at(2) >> kHighBit[quad] & 0x01010101u) << 2;
    case 4:
      return at(quad / 2) >> 4 * (quad % 2) & 0x0f0f0f0fu;
    case 6:
      return (at(quad / 2) >> 4 * (quad % 2) & 0x0f0f0f0fu) |
             (at(4 + quad / 4) >> 2 * (quad % 4) & 0x03030303u) << 4;
    default:
      return at(quad);
  }
}

void put_zero_point(std::byte* zeros, std::int64_t row, int bits, std::uint32_t zero_point) {
  if (bits >= 6) {
    zeros[row] = static_cast<std::byte>(zero_point);
  } else if (bits == 2) {
    *word(zeros, 0) |= zero_point << 2 * row;
  } else {
    *word(zeros, row % 2) |= zero_point << 4 * (row / 2);
  }
}

std::uint32_t get_zero_point(const std::byte* zeros, std::int64_t row, int bits) {
  if (bits >= 6) return static_cast<std::uint32_t>(zeros[row]);
  std::uint32_t w = 0;
  std::memcpy(&w, zeros + (bits == 2 ? 0 : row % 2 * 4), 4);
  return bits == 2 ? w >> 2 * row & 3u : w >> 4 * (row / 2) & 15u;
}

float get_scale(const std::byte* scales, std::int64_t row) {
  std::uint16_t half = 0;
  std::memcpy(&half, scales + 2 * row, 2);
  return f16_to_float(half);
}

/// One row of one group. `flip` is 0 or 2^bits - 1 in every byte.
void pack_codes_of(const std::uint8_t* codes, std::int64_t count, int bits, std::uint32_t flip,
                   std::byte* group, std::int64_t row, std::string_view name) {
  const std::uint32_t too_large = ~(((1u << bits) - 1) * 0x01010101u);
  std::uint32_t seen = 0;
  for (std::int64_t j = 0; j < count; j += 4) {
    std::uint32_t four = 0, mask = 0xffffffffu;
    if (j + 4 <= count) {
      std::memcpy(&four, codes + j, 4);
    } else {
      std::memcpy(&four, codes + j, static_cast<std::size_t>(count - j));
      mask >>= 8 * (4 - (count - j));
    }
    seen |= four;
    put_quad(group + j / kStep * 64 * bits, row, static_cast<int>(j % kStep / 4), bits,
             ((four & ~too_large) ^ flip) & mask);
  }
  if ((seen & too_large) != 0) {
    fail(ErrorKind::kCorrupt, kWhere, name, ": a code above ", (1 << bits) - 1, " in ", bits,
         " bits. The file it came from is damaged");
  }
}

}  // namespace

void pack_lowbit(const quant::QuantizedLinear& linear, const LowbitShape& shape, std::int64_t begin,
                 std::int64_t end, std::byte* packed, std::string_view name) {
  CRUMB_CHECK(linear.n == shape.n && linear.k == shape.k && linear.spec.bits == shape.bits &&
              linear.spec.group_of(linear.k) == shape.group_size && linear.spec.grid == shape.grid);
  CRUMB_CHECK(begin >= 0 && begin <= end && end <= shape.tiles() &&
              reinterpret_cast<std::uintptr_t>(packed) % kLowbitAlignment == 0);
  const LowbitGeometry g = lowbit_geometry(shape);
  CRUMB_CHECK(static_cast<std::int64_t>(linear.codes.size()) == shape.n * shape.k &&
              static_cast<std::int64_t>(linear.scales.size()) == shape.n * g.groups &&
              static_cast<std::int64_t>(linear.zero_points.size()) == shape.n * g.groups);
  const std::uint32_t max_code = (1u << shape.bits) - 1, middle = 1u << (shape.bits - 1);
  const bool symmetric = shape.grid == quant::Grid::kSignedSym;
  for (std::int64_t tile = begin; tile < end; ++tile) {
    std::byte* const out = packed + tile * g.tile_bytes;
    std::memset(out, 0, static_cast<std::size_t>(g.tile_bytes));
    const std::int64_t rows = std::min(kRows, shape.n - tile * kRows);
    for (GroupWalk at(g); !at.done(); at.next()) {
      for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t n = tile * kRows + row;
        const auto group = static_cast<std::size_t>(n * g.groups + at.group);
        const float scale = linear.scales[group];
        const std::uint32_t zero_point = linear.zero_points[group];
        if (round_to_f16(scale) != scale) {
          fail(ErrorKind::kUnsupported, kWhere, name, ": scale ", scale, " of row ", n, ", group ", at.group,
               " is no binary16 number; this layout stores scales as binary16 and rounds none. Quantize or "
               "export "
               "the model with f16 scales");
        }
        if (zero_point > max_code || (symmetric && zero_point != middle && zero_point != middle - 1)) {
          fail(ErrorKind::kCorrupt, kWhere, name, ": zero point ", zero_point, " of row ", n, ", group ",
               at.group, symmetric ? "; signed-symmetric weights have " : "; expected 0 to ",
               symmetric ? middle - 1 : max_code, symmetric ? " or one more" : "",
               ". The file it came from is damaged");
        }
        const bool flipped = symmetric && zero_point != middle;
        const std::uint16_t half = float_to_f16(flipped ? -scale : scale);
        std::memcpy(out + at.scales + 2 * row, &half, 2);
        if (!symmetric) put_zero_point(out + at.zeros, row, shape.bits, zero_point);
        pack_codes_of(linear.codes.data() + n * shape.k + at.group * shape.group_size, shape.group_size,
                      shape.bits, flipped ? max_code * 0x01010101u : 0, out + at.codes, row, name);
      }
    }
  }
}

quant::QuantizedLinear unpack_lowbit(const LowbitMatrix& w) {
  const LowbitShape& shape = w.shape;
  const LowbitGeometry g = lowbit_geometry(shape);
  const std::uint32_t max_code = (1u << shape.bits) - 1, middle = 1u << (shape.bits - 1);
  quant::QuantizedLinear linear{shape.n, shape.k, {shape.bits, shape.group_size, shape.grid}, {}, {}, {}};
  linear.codes.resize(static_cast<std::size_t>(shape.n * shape.k));
  linear.scales.resize(static_cast<std::size_t>(shape.n * g.groups));
  linear.zero_points.resize(linear.scales.size());
  for (std::int64_t n = 0; n < shape.n; ++n) {
    const std::byte* const tile = w.data + n / kRows * g.tile_bytes;
    const std::int64_t row = n % kRows;
    for (GroupWalk at(g); !at.done(); at.next()) {
      const auto group = static_cast<std::size_t>(n * g.groups + at.group);
      const float scale = get_scale(tile + at.scales, row);
      const bool flipped = shape.grid == quant::Grid::kSignedSym && std::signbit(scale);
      linear.scales[group] = flipped ? -scale : scale;
      linear.zero_points[group] = static_cast<std::uint8_t>(
          shape.grid == quant::Grid::kSignedSym ? (flipped ? middle - 1 : middle)
                                                : get_zero_point(tile + at.zeros, row, shape.bits));
      for (std::int64_t j = 0; j < shape.group_size; ++j) {
        const std::uint32_t four = get_quad(tile + at.codes + j / kStep * 64 * shape.bits, row,
                                            static_cast<int>(j % kStep / 4), shape.bits);
        const std::uint32_t code = four >> 8 * (j % 4) & 0xffu;
        linear.codes[static_cast<std::size_t>(n * shape.k + at.group * shape.group_size + j)] =
            static_cast<std::uint8_t>(flipped ? max_code - code : code);
      }
    }
  }
  return linear;
}

void dequantize_lowbit(const LowbitMatrix& w, std::int64_t begin, std::int64_t end, float* w_hat) {
  const LowbitShape& shape = w.shape;
  CRUMB_CHECK(begin >= 0 && begin <= end && end <= shape.n);
  const LowbitGeometry g = lowbit_geometry(shape);
  for (std::int64_t n = begin; n < end; ++n) {
    const std::byte* const tile = w.data + n / kRows * g.tile_bytes;
    const std::int64_t row = n % kRows;
    float* out = w_hat + (n - begin) * shape.k;
    for (GroupWalk at(g); !at.done(); at.next()) {
      const float scale = get_scale(tile + at.scales, row);
      const auto zero_point = static_cast<std::int32_t>(
          shape.grid == quant::Grid::kSignedSym ? 1u << (shape.bits - 1)
                                                : get_zero_point(tile + at.zeros, row, shape.bits));
      for (std::int64_t j = 0; j < shape.group_size; j += 4) {
        const std::uint32_t four = get_quad(tile + at.codes + j / kStep * 64 * shape.bits, row,
                                            static_cast<int>(j % kStep / 4), shape.bits);
        for (std::int64_t i = 0; i < 4 && j + i < shape.group_size; ++i)
          *out++ = static_cast<float>(static_cast<std::int32_t>(four >> 8 * i & 0xffu) - zero_point) * scale;
      }
    }
  }
}

}  // namespace crumb::kernels
