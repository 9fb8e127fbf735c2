// Register-tiled product. B is packed into panels of two vectors' width; A is read where it lies, or, when
// transposed, from a packed block, so that a step along K is always one broadcast per row.
#pragma once
#include "kernels/sgemm.h"
#include "kernels/sgemm/blocking.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

// Accumulators, two vectors of B and one broadcast fill the 16 (AVX2) or 32 (AVX-512) registers.
constexpr int kTileRows = kLanes == 8 ? 6 : 12;
constexpr int kTileColumns = 2 * kLanes;

/// op(B)[l0 … l0 + kc, j0 … j0 + nc] into panels [kc][kTileColumns]; columns beyond nc are zeros.
inline void pack_b(const SgemmArgs& g, std::int64_t l0, std::int64_t kc, std::int64_t j0, std::int64_t nc,
                   float* out) {
  for (std::int64_t j = 0; j < nc; j += kTileColumns, out += kc * kTileColumns) {
    const std::int64_t columns = least(kTileColumns, nc - j);
    if (!g.transpose_b) {
      const float* b = g.b + l0 * g.ldb + j0 + j;
      for (std::int64_t l = 0; l < kc; ++l, b += g.ldb) {
        if (columns == kTileColumns) {
          store(out + l * kTileColumns, load(b));
          store(out + l * kTileColumns + kLanes, load(b + kLanes));
        } else {
          store(out + l * kTileColumns, load_n(b, least(columns, kLanes)));
          store(out + l * kTileColumns + kLanes,
                columns > kLanes ? load_n(b + kLanes, columns - kLanes) : zero());
        }
      }
      continue;
    }
    for (int half = 0; half < 2; ++half) {
      const std::int64_t count = most(0, least(kLanes, columns - half * kLanes));
      const float* b = g.b + (j0 + j + half * kLanes) * g.ldb + l0;
      for (std::int64_t l = 0; l < kc; l += kLanes) {
        const std::int64_t depth = least(kLanes, kc - l);
        Vec rows[kLanes];
        for (int r = 0; r < kLanes; ++r) {
          rows[r] = r >= count        ? zero()
                    : depth == kLanes ? load(b + r * g.ldb + l)
                                      : load_n(b + r * g.ldb + l, depth);
        }
        transpose_square(rows);
        for (std::int64_t r = 0; r < depth; ++r) store(out + (l + r) * kTileColumns + half * kLanes, rows[r]);
      }
    }
  }
}

/// A stored [K, M]: columns i0 … i0 + mc of rows l0 … into panels [kc][kTileRows].
inline void pack_a_transposed(const SgemmArgs& g, std::int64_t l0, std::int64_t kc, std::int64_t i0,
                              std::int64_t mc, float* out) {
  for (std::int64_t i = 0; i < mc; i += kTileRows, out += kc * kTileRows) {
    const std::int64_t rows = least(kTileRows, mc - i);
    const float* a = g.a + l0 * g.lda + i0 + i;
    for (std::int64_t l = 0; l < kc; ++l, a += g.lda) {
      if (rows == kTileRows) {
        __builtin_memcpy(out + l * kTileRows, a, kTileRows * sizeof(float));
      } else {
        for (std::int64_t r = 0; r < rows; ++r) out[l * kTileRows + r] = a[r];
      }
    }
  }
}

/// One tile of C from `kc` steps: A element (r, l) at a[r * row_step + l * k_step].
template <int rows>
void tile(const float* a, std::int64_t row_step, std::int64_t k_step, const float* b, std::int64_t kc,
          float* c, std::int64_t ldc, std::int64_t columns, bool accumulate) {
  Vec sum[rows][2];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = zero();
  for (std::int64_t l = 0; l < kc; ++l, b += kTileColumns, a += k_step) {
    const Vec b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Vec x = splat(a[r * row_step]);
      sum[r][0] = fma(x, b0, sum[r][0]);
      sum[r][1] = fma(x, b1, sum[r][1]);
    }
  }
  if (columns == kTileColumns) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r, c += ldc) {
      store(c, accumulate ? load(c) + sum[r][0] : sum[r][0]);
      store(c + kLanes, accumulate ? load(c + kLanes) + sum[r][1] : sum[r][1]);
    }
    return;
  }
  const std::int64_t first = least(columns, kLanes), second = columns - first;
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r, c += ldc) {
    store_n(c, accumulate ? load_n(c, first) + sum[r][0] : sum[r][0], first);
    if (second > 0)
      store_n(c + kLanes, accumulate ? load_n(c + kLanes, second) + sum[r][1] : sum[r][1], second);
  }
}

using TileFn = void (*)(const float*, std::int64_t, std::int64_t, const float*, std::int64_t, float*,
                        std::int64_t, std::int64_t, bool);
constexpr TileFn kTiles[13] = {nullptr,
                               tile<1>,
                               tile<2>,
                               tile<3>,
                               tile<4>,
                               tile<5>,
                               tile<6>,
                               tile<(kTileRows > 6 ? 7 : 1)>,
                               tile<(kTileRows > 6 ? 8 : 1)>,
                               tile<(kTileRows > 6 ? 9 : 1)>,
                               tile<(kTileRows > 6 ? 10 : 1)>,
                               tile<(kTileRows > 6 ? 11 : 1)>,
                               tile<(kTileRows > 6 ? 12 : 1)>};

void run(const SgemmArgs& g, float* workspace) {
  if (g.k == 0 && !g.accumulate) {
    for (std::int64_t i = 0; i < g.m; ++i)
      __builtin_memset(g.c + i * g.ldc, 0, static_cast<std::size_t>(g.n) * sizeof(float));
  }
  float *const packed_b = workspace, *const packed_a = workspace + kBlockK * kBlockN;
  for (std::int64_t j0 = 0; j0 < g.n; j0 += kBlockN) {
    const std::int64_t nc = least(kBlockN, g.n - j0);
    for (std::int64_t l0 = 0; l0 < g.k; l0 += kBlockK) {
      const std::int64_t kc = least(kBlockK, g.k - l0);
      const bool accumulate = g.accumulate || l0 > 0;
      pack_b(g, l0, kc, j0, nc, packed_b);
      for (std::int64_t i0 = 0; i0 < g.m; i0 += kBlockM) {
        const std::int64_t mc = least(kBlockM, g.m - i0);
        if (g.transpose_a) pack_a_transposed(g, l0, kc, i0, mc, packed_a);
        for (std::int64_t j = 0; j < nc; j += kTileColumns) {
          const float* b = packed_b + j * kc;
          const std::int64_t columns = least(kTileColumns, nc - j);
          for (std::int64_t i = 0; i < mc; i += kTileRows) {
            const std::int64_t rows = least(kTileRows, mc - i);
            const float* a = g.transpose_a ? packed_a + i * kc : g.a + (i0 + i) * g.lda + l0;
            kTiles[rows](a, g.transpose_a ? 1 : g.lda, g.transpose_a ? kTileRows : 1, b, kc,
                         g.c + (i0 + i) * g.ldc + j0 + j, g.ldc, columns, accumulate);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace crumb::kernels
