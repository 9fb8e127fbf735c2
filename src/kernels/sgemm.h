// Single-precision matrix product: what attention calls, from here or from a library the caller links (MKL
// inside libtorch).
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"

namespace crumb::kernels {

/// C = op(A) op(B) + (accumulate ? C : 0), row-major, f32.
/// op(A) is [M, K]: A is [M, K] with rows `lda` apart, or with transpose_a [K, M]. op(B) is [K, N]: B is [K,
/// N], or with transpose_b [N, K]. C is [M, N] with rows `ldc` apart and aliases neither. K == 0 gives zeros
/// (or leaves C).
struct SgemmArgs {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;
  std::int64_t lda = 0;
  const float* b = nullptr;
  std::int64_t ldb = 0;
  float* c = nullptr;
  std::int64_t ldc = 0;
  bool accumulate = false;
};

/// A product on the calling thread only, called from inside parallel regions. `workspace` has
/// sgemm_workspace_floats() floats, aligned to 64 bytes, for this thread alone; a library that brings its own
/// memory ignores it.
using SgemmFn = void (*)(const SgemmArgs& args, float* workspace);

/// crumb's own, best usable variant. Error per element: (K + 2) * 2^-24 * sum_k |a b|. Deterministic.
SgemmFn own_sgemm();
std::int64_t sgemm_workspace_floats() noexcept;

/// own_sgemm() over all threads, split along the longer of M and N; allocates its workspaces. Bits do not
/// depend on the number of threads.
void sgemm(const SgemmArgs& args);

struct SgemmFunctions {
  void (*run)(const SgemmArgs& args, float* workspace);
};
std::span<const Variant<SgemmFunctions>> sgemm_variants();
const SgemmFunctions* sgemm_ref() noexcept;
const SgemmFunctions* sgemm_avx2() noexcept;
const SgemmFunctions* sgemm_avx512() noexcept;

}  // namespace crumb::kernels
