// Linears whose weights stay at 2, 3, 4, 6 or 8 bits: one packed layout for every instruction set, and y =
// w_hat x on it.
//
// The layout is "16 rows x 4 k" (docs in lowbit/layout.h): a 32-bit word belongs to one row and its four
// bytes to four consecutive k, which is what vpdpbusd, an AMX B tile and dp4a take. Scales (binary16) and
// zero points lie in front of the codes of at most 16 groups, so that a tile of 16 rows is one sequential
// stream.
//
// Nothing here starts a thread: the caller cuts the row tiles into ranges and calls lowbit_multiply for each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/registry.h"
#include "kernels/token_quant.h"
#include "quant/quantized_linear.h"

namespace crumb::kernels {

/// Rises whenever the same weights would give other bytes; part of the key of a cache file.
inline constexpr std::uint32_t kLowbitLayoutVersion = 1;
inline constexpr std::int64_t kLowbitTileRows = 16;
inline constexpr std::size_t kLowbitAlignment = 64;  // of packed weights and of activation memory

/// A weight [N, K] and its quantization; a plain value, made by lowbit_shape().
struct LowbitShape {
  std::int64_t n = 0, k = 0;
  std::int64_t group_size = 0;  // weights along K that share one scale; K itself for per channel
  int bits = 0;                 // 2, 3, 4, 6 (of embeddings and heads) or 8
  quant::Grid grid =
      quant::Grid::kAsym;  // kSignedSym stores no zero points: the scale's sign tells them apart
  bool operator==(const LowbitShape&) const = default;

  std::int64_t tiles() const { return (n + kLowbitTileRows - 1) / kLowbitTileRows; }  // the last one padded
};

/// Any N >= 1, any group size that divides K. Throws InvalidArgument as quant::check_spec does, 6 bits being
/// known here; `name` is the linear's.
LowbitShape lowbit_shape(std::int64_t n, std::int64_t k, const quant::AffineSpec& spec,
                         std::string_view name);

/// Bytes of one row tile and of the whole; both multiples of 64. Tiles follow each other without a gap, so
/// weights with the same K, bits, group size and grid whose N are multiples of 16 (q, k, v; gate, up) may be
/// packed one behind the other and multiplied as one weight of the summed N.
std::int64_t lowbit_tile_bytes(const LowbitShape& shape);
std::int64_t lowbit_bytes(const LowbitShape& shape);

/// Packed weights in memory that the caller owns (an allocation or a mapped file).
struct LowbitMatrix {
  LowbitShape shape;
  const std::byte* data = nullptr;  // lowbit_bytes(shape), 64-byte aligned
};

/// A view on `memory`. Throws Unsupported for another layout version and Corrupt when the size differs from
/// lowbit_bytes(shape) or the address is not aligned. Bytes are not looked at: no content can make a kernel
/// read outside of them.
LowbitMatrix lowbit_matrix(const LowbitShape& shape, std::span<const std::byte> memory,
                           std::uint32_t layout_version, std::string_view name);

/// Writes tiles [begin, end) to packed + begin * lowbit_tile_bytes(shape); other bytes are not touched, so
/// ranges may be packed at the same time. Deterministic, padding is zero.
///
/// linear   as check_quantized_linear wants it, of this shape (bits, group and grid included)
/// packed   lowbit_bytes(shape), 64-byte aligned
///
/// Throws Unsupported if a scale is no binary16 number (nothing is rounded here), Corrupt if a code or a zero
/// point is too large or, with kSignedSym, a zero point is neither 2^(bits-1) - 1 nor 2^(bits-1).
void pack_lowbit(const quant::QuantizedLinear& linear, const LowbitShape& shape, std::int64_t begin,
                 std::int64_t end, std::byte* packed, std::string_view name);

/// The inverse. kAsym: what was packed. kSignedSym: scales >= 0 and the codes and zero points that go with
/// them, which is what was packed if its scales were >= 0.
quant::QuantizedLinear unpack_lowbit(const LowbitMatrix& w);

/// w_hat (out) [end - begin, K] of rows [begin, end), exact in f32: bit for bit quant::dequantize up to the
/// sign of zero. For an embedding's rows and for tests.
void dequantize_lowbit(const LowbitMatrix& w, std::int64_t begin, std::int64_t end, float* w_hat);

/// What the product does with its activations.
enum class LowbitMode {
  kInt8,   // rounded to int8, each 64 (or fewer) along K with their own scale; integer sums
  kExact,  // kept in f32, times (code - zero point), f32 sums
};
std::string_view to_string(LowbitMode mode) noexcept;

/// Activations [M, K] as the products read them, in memory of the caller. Depends on K, the group size and
/// the mode only: linears that agree in those (q, k, v; any bits) share it.
///
/// Groups are cut into chunks of 64, the last of a group possibly shorter. A chunk of a row has
///   scale = absmax / 127,  code = rne(x * (127 / absmax)),  sum = sum of its codes
/// and scale 0 where absmax < 2^-100; a chunk with an infinity or NaN has scale NaN and codes 0, so that it
/// is seen in every output. Bit for bit the same from every variant.
///
/// That is what prepare_lowbit() makes. prepare_lowbit_tokens() rounds a whole row with one grid (T1 of
/// docs/math.md): its scale stands in every chunk, and codes are centered, code - zero_point, so that the
/// same products serve. They may be -128.
struct LowbitActivations {
  LowbitMode mode = LowbitMode::kInt8;
  std::int64_t m = 0, k = 0, group_size = 0;
  std::int64_t stride = 0;       // elements between rows of codes or values: groups padded to 32, and a gap
  std::int64_t chunks = 0;       // of one row
  std::int8_t* codes = nullptr;  // [M, stride]  kInt8, in [-128, 127]
  float* scales = nullptr;       // [M, chunks]  kInt8
  std::int32_t* sums = nullptr;  // [M, chunks]  kInt8
  float* values = nullptr;       // [M, stride]  kExact
};

/// About M * (K + 64) bytes for kInt8 and four times that for kExact.
std::int64_t lowbit_activation_bytes(std::int64_t m, std::int64_t k, std::int64_t group_size,
                                     LowbitMode mode);

/// Lays the arrays out in `memory` (64-byte aligned; may be larger than needed), reading nothing.
/// CRUMB_CHECKs size and alignment.
LowbitActivations lowbit_activations(std::int64_t m, std::int64_t k, std::int64_t group_size, LowbitMode mode,
                                     std::span<std::byte> memory);

/// A variant. Works on one thread, allocates and throws nothing.
struct LowbitFunctions {
  /// Rows [begin, end) of x [M, K] f32, rows ldx apart, into `out`.
  void (*prepare)(const float* x, std::int64_t ldx, const LowbitActivations& out, std::int64_t begin,
                  std::int64_t end) noexcept;
  /// y [M, N] of row tiles [begin, end); one function for each LowbitMode.
  void (*multiply[2])(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin, std::int64_t end,
                      float* y, std::int64_t ldy) noexcept;
};

/// Best first: amx, avx512_vnni, avx2, ref.
std::span<const Variant<LowbitFunctions>> lowbit_variants();
/// The one that CRUMB_FORCE_ISA and the machine allow. Ask once, at load.
const Variant<LowbitFunctions>& lowbit_variant();

/// Quantizes (or copies) rows [begin, end) of x, which are rows of `out` too. Ranges may run at the same
/// time.
void prepare_lowbit(const LowbitFunctions& functions, const float* x, std::int64_t ldx,
                    const LowbitActivations& out, std::int64_t begin, std::int64_t end);

/// The same with one grid a row, of `bits` bits (2 … 8): kInt8 holds its centered codes (CRUMB_CHECKs
/// quant::fits_int8), kExact what they stand for in f32. A row with an infinity or NaN has scales (values)
/// NaN. `fixed`: every finite row's grid; nullptr: each row's own, bit for bit quant::token_grid from every
/// variant.
void prepare_lowbit_tokens(const TokenQuantFunctions& functions, const float* x, std::int64_t ldx, int bits,
                           bool symmetric, const LowbitActivations& out, std::int64_t begin, std::int64_t end,
                           const quant::TokenGrid* fixed = nullptr);

/// y[m][n] = sum over k of w_hat[n][k] * x[m][k]  for all m and the rows n of tiles [begin, end), on the
/// calling thread; y is overwritten there and not touched elsewhere. For any M; M <= 8 is tuned for reading
/// weights once from memory, larger M for reusing what was unpacked.
///
/// y   [M, N] f32, rows ldy apart, no alignment needed
///
/// kInt8, with S the integer sum over a chunk of (code - zero_point) * activation code, which is exact:
///   y = fma(f32(S), scale_w * scale_x, y)   chunk by chunk, from 0
/// kExact, group by group, in four sums that take k mod 4 (counted in the group) = 0, 1, 2, 3:
///   d_i = fma(code - zero_point, x, d_i);  y = fma((d_0 + d_1) + (d_2 + d_3), scale_w, y)
///
/// Every variant does just these operations, so a result has the same bits for every variant, every M, every
/// neighbour and every cut into ranges. With u = 2^-24 its error is at most
///   kInt8   (chunks + 2) * u * sum |S * scale_w * scale_x|  against the exact sum over the rounded
///   activations kExact  (G / 4 + K / G + 4) * u * sum |w_hat * x|
/// plus, in kInt8, the rounding of the activations: at most (1 + 2^-16) * scale_x / 2 * sum |w_hat| of each
/// chunk.
///
/// CRUMB_CHECKs that K and the group size agree and that the range lies in the weight.
void lowbit_multiply(const LowbitFunctions& functions, const LowbitMatrix& w, const LowbitActivations& x,
                     std::int64_t begin, std::int64_t end, float* y, std::int64_t ldy);

const LowbitFunctions* lowbit_ref() noexcept;
const LowbitFunctions* lowbit_avx2() noexcept;
const LowbitFunctions* lowbit_avx512vnni() noexcept;
const LowbitFunctions* lowbit_amx() noexcept;

}  // namespace crumb::kernels
