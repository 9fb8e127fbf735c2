#include "kernels/dense_linear.h"

#include <cstring>

#include "base/check.h"
#include "base/half.h"

namespace crumb::kernels {

std::string_view to_string(DenseType type) noexcept {
  return type == DenseType::kF32 ? "f32" : type == DenseType::kF16 ? "f16" : "bf16";
}

std::int64_t dense_element_bytes(DenseType type) noexcept {
  return type == DenseType::kF32 ? 4 : 2;
}

std::span<const Variant<DenseLinearFunctions>> dense_linear_variants() {
  static const Variant<DenseLinearFunctions> kVariants[] = {{Isa::kAvx512, dense_linear_avx512()},
                                                            {Isa::kAvx2, dense_linear_avx2()},
                                                            {Isa::kRef, dense_linear_ref()}};
  return kVariants;
}

void dense_multiply(const DenseMatrix& w, const float* x, std::int64_t ldx, std::int64_t m,
                    std::int64_t begin, std::int64_t end, float* y, std::int64_t ldy) {
  CRUMB_CHECK(begin >= 0 && begin <= end && end <= w.n && ldx >= w.k && (m <= 1 || ldy >= w.n) && m >= 0);
  choose(dense_linear_variants()).run->multiply(w, x, ldx, m, begin, end, y, ldy);
}

void dense_rows(const DenseMatrix& w, std::int64_t begin, std::int64_t end, float* out) {
  CRUMB_CHECK(begin >= 0 && begin <= end && end <= w.n);
  const std::int64_t first = begin * w.k, count = (end - begin) * w.k;
  if (w.type == DenseType::kF32) {
    std::memcpy(out, static_cast<const float*>(w.data) + first, static_cast<std::size_t>(count) * 4);
    return;
  }
  const std::uint16_t* halves = static_cast<const std::uint16_t*>(w.data) + first;
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = w.type == DenseType::kF16 ? f16_to_float(halves[i]) : bf16_to_float(halves[i]);
}

}  // namespace crumb::kernels
