#include "kernels/intrinsics.h"

#include "kernels/lowbit/vnni_products.h"

namespace crumb::kernels {
namespace {

// add_products of the low-bit variant, in assembly or emulated: out is a + b * c.
template <class Register, class Quad>
void add(const void* a, const void* b, Quad quad, void* out) {
  Register sum, codes;
  __builtin_memcpy(&sum, a, sizeof sum);
  __builtin_memcpy(&codes, b, sizeof codes);
  add_products(sum, codes, quad);
  __builtin_memcpy(out, &sum, sizeof sum);
}
constexpr test::Intrinsic kList[] = {
    {"dpbusd", [](const void* a, const void* b, const void* c,
                  void* out) { add<__m512i>(a, b, _mm512_loadu_si512(c), out); }},
    {"dpbusd_quad", [](const void* a, const void* b, const void* c,
                       void* out) { add<__m512i>(a, b, static_cast<const std::int8_t*>(c), out); }},
    {"dpbusd_quad_half", [](const void* a, const void* b, const void* c,
                            void* out) { add<__m256i>(a, b, static_cast<const std::int8_t*>(c), out); }},
};

}  // namespace

namespace test {

Intrinsics intrinsics_avx512vnni() noexcept {
  return {kList, sizeof(kList) / sizeof(kList[0])};
}

}  // namespace test
}  // namespace crumb::kernels
