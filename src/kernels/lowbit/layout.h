// The packed layout, version 1. Everything here has internal linkage: variant files include it.
//
// A tile holds 16 rows; tiles follow each other. Within a tile groups are taken along K, up to 16 to a block:
//
//   block   scales      [groups][16] binary16
//           zero points [groups][zero_bytes]   kSignedSym: none
//           zeros up to a multiple of 64
//           codes       [groups][steps][64 * bits]
//
//   zero points of 16 rows   2 bits     a 32-bit word, row r at bits 2 r
//                            3, 4 bits  two 32-bit words, row r at bits 4 (r / 2) of word r % 2
//                            6, 8 bits  16 bytes
//
// A group is padded with zero codes to steps of 32 k. A step is made of 64-byte units: 16 words, one a row,
// of 4 bytes; byte b of a word belongs to k = 4 quad + b, and its bits to the quads of the unit:
//
//   2 bits   units 0, 1           quad 4 u + j of the step at bits 2 j, j = 0 … 3
//   3 bits   units 0, 1 as 2 bits; unit 2 holds the high bits: u = 0 at bits 2, 4, 6, 0 for j = 0 … 3, u = 1
//   at
//            3, 5, 7, 1, so that five of eight quads take theirs without a shift of their own
//   4 bits   units 0 … 3          quad 2 u + j at bits 4 j
//   6 bits   units 0 … 3 as 4 bits; units 4, 5 the high two bits, as 2 bits
//   8 bits   units 0 … 7          quad u
//
// kSignedSym: (c - z) s with z = 2^(bits-1) - 1 equals ((2^bits - 1 - c) - 2^(bits-1)) (-s), so every zero
// point is stored as 2^(bits-1) and the sign of the scale tells which it was.
#pragma once
#include <cstdint>

#include "kernels/lowbit.h"

namespace crumb::kernels {
namespace {

constexpr std::int64_t kStep =
    32;  // k; the least a group is padded to: the high bits of 3-bit codes fill a unit
constexpr std::int64_t kChunk = 64;  // k that share an activation scale; int16 sums of pairs hold as many
constexpr std::int64_t kBlockGroups =
    16;  // then scales and zero points of a block fill whole lines at any width
constexpr std::int64_t kRows = kLowbitTileRows;

constexpr std::int64_t up_to(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

struct LowbitGeometry {
  std::int64_t groups, steps, chunks;   // of a row; of a group; of a group
  std::int64_t zero_bytes, code_bytes;  // of a group
  std::int64_t tile_bytes;
};

/// Bytes in front of the codes of a block of `groups`.
inline std::int64_t head_bytes(const LowbitGeometry& g, std::int64_t groups) {
  return up_to(groups * (2 * kRows + g.zero_bytes), 64);
}

inline LowbitGeometry lowbit_geometry(const LowbitShape& shape) {
  LowbitGeometry g{};
  g.groups = shape.k / shape.group_size;
  g.steps = (shape.group_size + kStep - 1) / kStep;
  g.chunks = (g.steps * kStep + kChunk - 1) / kChunk;
  g.zero_bytes = shape.grid == quant::Grid::kSignedSym ? 0 : shape.bits == 2 ? 4 : shape.bits >= 6 ? 16 : 8;
  g.code_bytes = g.steps * 64 * shape.bits;
  const std::int64_t whole = g.groups / kBlockGroups, rest = g.groups % kBlockGroups;
  g.tile_bytes = g.groups * g.code_bytes + whole * head_bytes(g, kBlockGroups) + head_bytes(g, rest);
  return g;
}

/// Walks the groups of a tile: where each one's scales, zero points and codes lie, in bytes from the tile's
/// begin.
struct GroupWalk {
  const LowbitGeometry& g;
  std::int64_t group = 0, scales = 0, zeros = 0, codes = 0;

  explicit GroupWalk(const LowbitGeometry& geometry) : g(geometry) { enter_block(0); }
  bool done() const { return group == g.groups; }
  void next() {
    ++group;
    scales += 2 * kRows;
    zeros += g.zero_bytes;
    codes += g.code_bytes;
    if (group % kBlockGroups == 0) enter_block(codes);
  }

 private:
  void enter_block(std::int64_t at) {
    const std::int64_t left = g.groups - group, count = left < kBlockGroups ? left : kBlockGroups;
    scales = at;
    zeros = at + count * 2 * kRows;
    codes = at + head_bytes(g, count);
  }
};

/// Where the activations of a group begin in a row.
inline std::int64_t activation_offset(const LowbitGeometry& g, std::int64_t group) {
  return group * g.steps * kStep;
}

}  // namespace
}  // namespace crumb::kernels
