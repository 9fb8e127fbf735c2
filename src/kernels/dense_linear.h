// Linears whose weights are floats of 32 or 16 bits, read as they are stored: embeddings, heads, whole float
// models.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/registry.h"

namespace crumb::kernels {

enum class DenseType { kF32, kF16, kBf16 };
std::string_view to_string(DenseType type) noexcept;
std::int64_t dense_element_bytes(DenseType type) noexcept;

/// A weight [N, K], row-major, in memory of the caller; aligned to its element.
struct DenseMatrix {
  DenseType type = DenseType::kF32;
  std::int64_t n = 0, k = 0;
  const void* data = nullptr;
};

/// y[m][n] = sum over k of w[n][k] * x[m][k]  for all m and n in [begin, end), on the calling thread.
///
/// x   [M, K] f32, rows ldx apart;   y (out)  [M, N] f32, rows ldy apart, not touched outside of the range
///
/// Products of f32, sums of f32 in as many lanes as a vector has, each in the order of k, then across the
/// lanes. The bits of an element depend on its two rows and the variant alone, not on M or the range. Error
/// against f64: (K + 2) * 2^-24 * sum |w x|.
void dense_multiply(const DenseMatrix& w, const float* x, std::int64_t ldx, std::int64_t m,
                    std::int64_t begin, std::int64_t end, float* y, std::int64_t ldy);

/// Rows [begin, end) as f32 (out) [end - begin, K]; exact.
void dense_rows(const DenseMatrix& w, std::int64_t begin, std::int64_t end, float* out);

struct DenseLinearFunctions {
  void (*multiply)(const DenseMatrix& w, const float* x, std::int64_t ldx, std::int64_t m, std::int64_t begin,
                   std::int64_t end, float* y, std::int64_t ldy) noexcept;
};
std::span<const Variant<DenseLinearFunctions>> dense_linear_variants();
const DenseLinearFunctions* dense_linear_ref() noexcept;
const DenseLinearFunctions* dense_linear_avx2() noexcept;
const DenseLinearFunctions* dense_linear_avx512() noexcept;

}  // namespace crumb::kernels
