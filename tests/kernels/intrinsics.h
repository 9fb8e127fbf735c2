// Intrinsics of AVX-512 one by one, as the processor has them or as they are emulated.
#pragma once

namespace crumb::kernels::test {

/// a, b, c: operands of up to 64 bytes; the mask, where there is one, is the first bytes of c. A masked store
/// leaves the rest of `out`; what a result does not fill stays.
struct Intrinsic {
  const char* name;
  void (*run)(const void* a, const void* b, const void* c, void* out);
};
struct Intrinsics {
  const Intrinsic* list;
  int count;
};
Intrinsics intrinsics_avx512() noexcept;
Intrinsics intrinsics_avx512vnni() noexcept;
Intrinsics intrinsics_avx512bf16() noexcept;

}  // namespace crumb::kernels::test
