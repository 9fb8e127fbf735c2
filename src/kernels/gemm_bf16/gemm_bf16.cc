#include "kernels/gemm_bf16.h"

#include <algorithm>
#include <memory>
#include <new>

#include <omp.h>

#include "base/check.h"

namespace crumb::kernels {
namespace {

struct Free {
  void operator()(std::uint16_t* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Panels = std::unique_ptr<std::uint16_t[], Free>;

Panels panels(std::int64_t count) {
  return Panels(static_cast<std::uint16_t*>(
      ::operator new[](static_cast<std::size_t>(count) * sizeof(std::uint16_t), std::align_val_t{64})));
}

std::int64_t up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple;
}

// Panels of A that pass one panel of B before the next B panel comes: some 256 KiB of A in the second-level
// cache.
std::int64_t a_panels_in_cache(const GemmBf16Functions& f, std::int64_t k_block) {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 17) / (f.a_rows * k_block));
}

}  // namespace

std::span<const Variant<GemmBf16Functions>> gemm_bf16_variants() {
  static const Variant<GemmBf16Functions> kVariants[] = {
      {Isa::kAmx, gemm_bf16_amx()}, {Isa::kAvx512Bf16, gemm_bf16_avx512bf16()}, {Isa::kRef, gemm_bf16_ref()}};
  return kVariants;
}

Isa gemm_bf16_isa() {
  return choose(gemm_bf16_variants()).isa;
}
bool has_fast_gemm_bf16() {
  return gemm_bf16_isa() != Isa::kRef;
}
void gemm_bf16(const GemmBf16Args& args) {
  gemm_bf16_with(*choose(gemm_bf16_variants()).run, args);
}

void gemm_bf16_with(const GemmBf16Functions& f, const GemmBf16Args& args) {
  if (args.m <= 0 || args.n <= 0) return;
  if (args.k <= 0) {
    for (std::int64_t i = 0; !args.accumulate && i < args.m; ++i)
      std::fill_n(args.c + i * args.ldc, args.n, 0.0f);
    return;
  }
  CRUMB_CHECK((args.a.f32 == nullptr) != (args.a.bf16 == nullptr) &&
              (args.b.f32 == nullptr) != (args.b.bf16 == nullptr));
  const std::int64_t k_padded = up(args.k, f.k_multiple) * f.k_multiple,
                     k_block = std::min(k_padded, f.k_block);
  const std::int64_t a_count = up(args.m, f.a_rows), b_count = up(args.n, f.b_columns);
  const std::int64_t a_size = f.a_rows * k_padded, b_size = f.b_columns * k_padded;
  const Panels a = panels(a_count * a_size), b = panels(b_count * b_size);
  const bool by_rows = a_count >= b_count;  // the longer side is shared out
  const std::int64_t a_chunk = a_panels_in_cache(f, k_block);
  const auto threads = static_cast<int>(
      omp_in_parallel() ? 1 : std::min<std::int64_t>(omp_get_max_threads(), std::max(a_count, b_count)));
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static) nowait
    for (std::int64_t i = 0; i < a_count; ++i)
      f.pack_a(args.a, args.m, args.k, k_padded, i, a.get() + i * a_size);
#pragma omp for schedule(static)
    for (std::int64_t j = 0; j < b_count; ++j)
      f.pack_b(args.b, args.n, args.k, k_padded, j, b.get() + j * b_size);
    const std::int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
    const std::int64_t i_begin = by_rows ? a_count * me / team : 0,
                       i_end = by_rows ? a_count * (me + 1) / team : a_count;
    const std::int64_t j_begin = by_rows ? 0 : b_count * me / team,
                       j_end = by_rows ? b_count : b_count * (me + 1) / team;
    f.begin();
    for (std::int64_t l = 0; l < k_padded; l += k_block) {
      const std::int64_t depth = std::min(k_block, k_padded - l);
      for (std::int64_t i0 = i_begin; i0 < i_end; i0 += a_chunk) {
        for (std::int64_t j = j_begin; j < j_end; ++j) {
          const std::int64_t columns = std::min(f.b_columns, args.n - j * f.b_columns);
          for (std::int64_t i = i0; i < std::min(i_end, i0 + a_chunk); ++i) {
            f.multiply(a.get() + i * a_size, b.get() + j * b_size, l, depth, k_padded,
                       args.c + i * f.a_rows * args.ldc + j * f.b_columns, args.ldc,
                       std::min(f.a_rows, args.m - i * f.a_rows), columns, args.accumulate || l > 0);
          }
        }
      }
    }
    f.end();
  }
}

}  // namespace crumb::kernels
