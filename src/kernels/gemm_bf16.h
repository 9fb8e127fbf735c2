// Matrix products with operands rounded to bfloat16 and sums in f32, for processors that have them in
// hardware.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"

namespace crumb::kernels {

/// One operand, row-major with rows `ld` elements apart: f32 (rounded half to even on the way in) or bf16
/// bits; exactly one pointer is set.
struct Bf16Operand {
  const float* f32 = nullptr;
  const std::uint16_t* bf16 = nullptr;
  std::int64_t ld = 0;
  bool transpose = false;
};

/// C [M, N] f32 = op(A) op(B) (+ C).   op(A) [M, K], op(B) [K, N]; with `transpose` they are stored [K, M]
/// and [N, K].
///   y = x w^T      a = x [M, K],          b = w [N, K] transpose
///   dx = dy w      a = dy [M, N],         b = w [N, K]
///   dw = dy^T x    a = dy [M, N] transpose, b = x [M, K]
struct GemmBf16Args {
  std::int64_t m = 0, n = 0, k = 0;
  Bf16Operand a, b;
  float* c = nullptr;
  std::int64_t ldc = 0;
  bool accumulate = false;
};

/// Whether a variant other than the scalar reference is usable, i.e. whether Precision::kBf16 makes sense on
/// this CPU.
bool has_fast_gemm_bf16();
/// The one that runs: kAmx, kAvx512Bf16 or kRef.
Isa gemm_bf16_isa();

/// Packs both operands once into tiles (2 bytes an element, allocated here and freed) and multiplies over all
/// threads. Every element of C is summed in an order that depends on K only: the same for any number of
/// threads. Error against f64 over the rounded operands: (K + 2) * 2^-24 * sum |a b|; tiles and vdpbf16ps
/// flush denormal products to zero.
void gemm_bf16(const GemmBf16Args& args);

/// Geometry of packed panels and the functions on them. A panel of A has `a_rows` rows, one of B `b_columns`
/// columns; both hold K in pairs.
struct GemmBf16Functions {
  std::int64_t a_rows, b_columns, k_multiple,
      k_block;  // k_block: depth of one multiply, a multiple of k_multiple
  /// Panel `index` of op(A) or op(B): all K (padded with zeros to k_padded) into `panel`.
  void (*pack_a)(const Bf16Operand&, std::int64_t m, std::int64_t k, std::int64_t k_padded,
                 std::int64_t index, std::uint16_t* panel) noexcept;
  void (*pack_b)(const Bf16Operand&, std::int64_t n, std::int64_t k, std::int64_t k_padded,
                 std::int64_t index, std::uint16_t* panel) noexcept;
  /// Before and after the products of one thread (tile configuration).
  void (*begin)() noexcept;
  void (*end)() noexcept;
  /// C[rows, columns] (+)= A panel * B panel over k_count of the padded K, from k_begin; rows <= a_rows,
  /// columns <= b_columns.
  void (*multiply)(const std::uint16_t* a_panel, const std::uint16_t* b_panel, std::int64_t k_begin,
                   std::int64_t k_count, std::int64_t k_padded, float* c, std::int64_t ldc, std::int64_t rows,
                   std::int64_t columns, bool accumulate) noexcept;
};
std::span<const Variant<GemmBf16Functions>> gemm_bf16_variants();
const GemmBf16Functions* gemm_bf16_ref() noexcept;
const GemmBf16Functions* gemm_bf16_avx512bf16() noexcept;
const GemmBf16Functions* gemm_bf16_amx() noexcept;

/// gemm_bf16 through a given variant; for tests and benchmarks.
void gemm_bf16_with(const GemmBf16Functions& functions, const GemmBf16Args& args);

}  // namespace crumb::kernels
