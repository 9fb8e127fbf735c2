#pragma once
#include "kernels/dense_linear.h"
#include "kernels/simd/vec_math.h"

// Before this header: kTileRows, the rows of x that a register tile takes with four weights each.

namespace crumb::kernels {
namespace {

constexpr std::int64_t kTileWeights = 4;
/// Weights that a block of them keeps in the second-level cache while all of x passes by.
constexpr std::int64_t kBlockBytes = 256 << 10;

template <DenseType type>
struct Weights {
  using Element = std::uint16_t;
};
template <>
struct Weights<DenseType::kF32> {
  using Element = float;
};
template <DenseType type, class Element>
inline Vec load_weights(const Element* p) {
  if constexpr (type == DenseType::kF32) return load(p);
  if constexpr (type == DenseType::kF16) return load_f16(p);
  if constexpr (type == DenseType::kBf16) return load_bf16(p);
}
template <DenseType type, class Element>
inline Vec load_weights_n(const Element* p, std::int64_t n) {
  if constexpr (type == DenseType::kF32) return load_n(p, n);
  if constexpr (type == DenseType::kF16) return load_f16_n(p, n);
  if constexpr (type == DenseType::kBf16) return load_bf16_n(p, n);
}

template <DenseType type, int R, int C, class Element>
inline void multiply_tile(const Element* w, std::int64_t k, const float* x, std::int64_t ldx, float* y,
                          std::int64_t ldy) {
  Vec sum[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sum[r][c] = zero();
  for_vectors(
      k,
      [&](std::int64_t i) {
        Vec a[R];
        for (int r = 0; r < R; ++r) a[r] = load(x + r * ldx + i);
        for (int c = 0; c < C; ++c) {
          const Vec b = load_weights<type>(w + c * k + i);
          for (int r = 0; r < R; ++r) sum[r][c] = fma(a[r], b, sum[r][c]);
        }
      },
      [&](std::int64_t i, std::int64_t rest) {
        Vec a[R];
        for (int r = 0; r < R; ++r) a[r] = load_n(x + r * ldx + i, rest);
        for (int c = 0; c < C; ++c) {
          const Vec b = load_weights_n<type>(w + c * k + i, rest);
          for (int r = 0; r < R; ++r) sum[r][c] = fma(a[r], b, sum[r][c]);
        }
      });
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) y[r * ldy + c] = sum_lanes(sum[r][c]);
}

/// All weights of [0, n) against R rows of x. One row of x takes eight weights at once: as many sums as hide
/// the latency of a multiply-add.
template <DenseType type, int R, class Element>
inline void multiply_rows(const Element* w, std::int64_t n, std::int64_t k, const float* x, std::int64_t ldx,
                          float* y, std::int64_t ldy) {
  constexpr int kWide = R == 1 ? 8 : static_cast<int>(kTileWeights);
  std::int64_t at = 0;
  for (; at + kWide <= n; at += kWide) multiply_tile<type, R, kWide>(w + at * k, k, x, ldx, y + at, ldy);
  for (; at < n; ++at) multiply_tile<type, R, 1>(w + at * k, k, x, ldx, y + at, ldy);
}

template <DenseType type>
void multiply_as(const DenseMatrix& w, const float* x, std::int64_t ldx, std::int64_t m, std::int64_t begin,
                 std::int64_t end, float* y, std::int64_t ldy) {
  using Element = typename Weights<type>::Element;
  const std::int64_t row_bytes = w.k * static_cast<std::int64_t>(sizeof(Element));
  const std::int64_t block = most(8, kBlockBytes / most(row_bytes, 1) / 8 * 8);
  for (std::int64_t first = begin; first < end; first += block) {
    const std::int64_t n = least(block, end - first);
    const Element* weights = static_cast<const Element*>(w.data) + first * w.k;
    std::int64_t row = 0;
    for (; row + kTileRows <= m; row += kTileRows)
      multiply_rows<type, kTileRows>(weights, n, w.k, x + row * ldx, ldx, y + row * ldy + first, ldy);
    for (; row + 2 <= m; row += 2)
      multiply_rows<type, 2>(weights, n, w.k, x + row * ldx, ldx, y + row * ldy + first, ldy);
    if (row < m) multiply_rows<type, 1>(weights, n, w.k, x + row * ldx, ldx, y + row * ldy + first, ldy);
  }
}

void multiply(const DenseMatrix& w, const float* x, std::int64_t ldx, std::int64_t m, std::int64_t begin,
              std::int64_t end, float* y, std::int64_t ldy) noexcept {
  switch (w.type) {
    case DenseType::kF32:
      return multiply_as<DenseType::kF32>(w, x, ldx, m, begin, end, y, ldy);
    case DenseType::kF16:
      return multiply_as<DenseType::kF16>(w, x, ldx, m, begin, end, y, ldy);
    case DenseType::kBf16:
      return multiply_as<DenseType::kBf16>(w, x, ldx, m, begin, end, y, ldy);
  }
}

}  // namespace
}  // namespace crumb::kernels
