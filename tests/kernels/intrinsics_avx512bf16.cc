#include "kernels/intrinsics.h"

#include "kernels/simd/vec_avx512.h"

namespace crumb::kernels {
namespace {

constexpr test::Intrinsic kList[] = {
    {"dpbf16_ps", [](const void* a, const void* b, const void* c, void* out) {
       const __m512bh x = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b)),
                      y = reinterpret_cast<__m512bh>(_mm512_loadu_si512(c));
       _mm512_storeu_ps(out, _mm512_dpbf16_ps(_mm512_loadu_ps(a), x, y));
     }}};

}  // namespace

namespace test {

Intrinsics intrinsics_avx512bf16() noexcept {
  return {kList, 1};
}

}  // namespace test
}  // namespace crumb::kernels
