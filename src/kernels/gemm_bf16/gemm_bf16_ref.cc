// Scalar truth: panels are plain, [rows][K], and sums run in f64.
#include "base/half.h"
#include "kernels/gemm_bf16.h"

namespace crumb::kernels {
namespace {

std::uint16_t element(const Bf16Operand& x, std::int64_t row, std::int64_t column) {
  const std::int64_t at = row * x.ld + column;
  return x.bf16 != nullptr ? x.bf16[at] : float_to_bf16(x.f32[at]);
}

constexpr std::int64_t kRows = 8, kColumns = 8;

void pack_a(const Bf16Operand& a, std::int64_t m, std::int64_t k, std::int64_t k_padded, std::int64_t index,
            std::uint16_t* panel) noexcept {
  for (std::int64_t r = 0; r < kRows; ++r) {
    const std::int64_t i = index * kRows + r;
    for (std::int64_t l = 0; l < k_padded; ++l) {
      panel[r * k_padded + l] = i < m && l < k ? (a.transpose ? element(a, l, i) : element(a, i, l)) : 0;
    }
  }
}

void pack_b(const Bf16Operand& b, std::int64_t n, std::int64_t k, std::int64_t k_padded, std::int64_t index,
            std::uint16_t* panel) noexcept {
  for (std::int64_t c = 0; c < kColumns; ++c) {
    const std::int64_t j = index * kColumns + c;
    for (std::int64_t l = 0; l < k_padded; ++l) {
      panel[c * k_padded + l] = j < n && l < k ? (b.transpose ? element(b, j, l) : element(b, l, j)) : 0;
    }
  }
}

void nothing() noexcept {}

void multiply(const std::uint16_t* a, const std::uint16_t* b, std::int64_t, std::int64_t k_count,
              std::int64_t k_padded, float* c, std::int64_t ldc, std::int64_t rows, std::int64_t columns,
              bool accumulate) noexcept {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      double sum = accumulate ? c[i * ldc + j] : 0.0;
      for (std::int64_t l = 0; l < k_count; ++l) {
        sum += static_cast<double>(bf16_to_float(a[i * k_padded + l])) * bf16_to_float(b[j * k_padded + l]);
      }
      c[i * ldc + j] = static_cast<float>(sum);
    }
  }
}

}  // namespace

const GemmBf16Functions* gemm_bf16_ref() noexcept {
  static constexpr GemmBf16Functions kFunctions = {
      kRows, kColumns, 1, std::int64_t{1} << 40, pack_a, pack_b, nothing, nothing, multiply};
  return &kFunctions;
}

}  // namespace crumb::kernels
