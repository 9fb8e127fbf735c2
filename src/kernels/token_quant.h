// Rows of activations rounded with one grid each, as quant/token_grid.h defines it: to codes or to what they
// stand for. On the calling thread.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"
#include "quant/activation_scheme.h"
#include "quant/token_grid.h"

namespace crumb::kernels {

struct TokenQuantFunctions {
  /// The least and the largest of x [count] and 0; returns false where one is infinite or NaN (low and high
  /// are then of no use).
  bool (*extremes)(const float* x, std::int64_t count, float* low, float* high) noexcept;
  /// codes (out) [count <= 2^17] = quant::centered_code of each, which are int8 numbers (quant::fits_int8).
  /// Returns their sum.
  std::int32_t (*codes)(const float* x, std::int64_t count, const quant::TokenGrid& grid,
                        std::int8_t* codes) noexcept;
  /// y (out) [count] = quant::fake_quant_one of each; may be x itself.
  void (*values)(const float* x, std::int64_t count, const quant::TokenGrid& grid, float* y) noexcept;
};
/// Best first: avx512, avx2, ref. All give the bits of quant/token_grid.h.
std::span<const Variant<TokenQuantFunctions>> token_quant_variants();
const TokenQuantFunctions* token_quant_ref() noexcept;
const TokenQuantFunctions* token_quant_avx2() noexcept;
const TokenQuantFunctions* token_quant_avx512() noexcept;

/// The grid of x [count], its own or, unless nullptr, `fixed`; its scale is NaN where the row is not finite.
quant::TokenGrid token_grid(const TokenQuantFunctions& functions, const float* x, std::int64_t count,
                            int bits, bool symmetric, const quant::TokenGrid* fixed = nullptr);

/// Fake-quantizes rows of `count` numbers in place, each with its own grid or the fixed one; row r at
/// x + r * stride. For queries, keys and values: a row is a head.
void fake_quant_rows(const TokenQuantFunctions& functions, float* x, std::int64_t rows, std::int64_t count,
                     std::int64_t stride, int bits, bool symmetric, const quant::TokenGrid* fixed = nullptr);

/// Fake-quantizes rows of `count` numbers in place, the channel i of each with grid i of `bits` bits. Plain
/// loops: no integer product follows.
void fake_quant_channels(float* x, std::int64_t rows, std::int64_t count, std::int64_t stride, int bits,
                         const quant::StaticGrid& grids);

}  // namespace crumb::kernels
