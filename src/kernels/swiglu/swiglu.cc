#include "kernels/swiglu.h"

#include "base/parallel_for.h"

namespace crumb::kernels {
namespace {

constexpr std::int64_t kGrain = 8192;

}  // namespace

std::span<const Variant<SwigluFunctions>> swiglu_variants() {
  static const Variant<SwigluFunctions> kVariants[] = {
      {Isa::kAvx512, swiglu_avx512()}, {Isa::kAvx2, swiglu_avx2()}, {Isa::kRef, swiglu_ref()}};
  return kVariants;
}

void swiglu(const float* gate, const float* up, std::int64_t count, float* y) {
  const auto run = choose(swiglu_variants()).run->forward;
  parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    run(gate + begin, up + begin, end - begin, y + begin);
  });
}

void swiglu_backward(const float* gate, const float* up, const float* grad_y, std::int64_t count,
                     float* grad_gate, float* grad_up) {
  const auto run = choose(swiglu_variants()).run->backward;
  parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    run(gate + begin, up + begin, grad_y + begin, end - begin, grad_gate + begin, grad_up + begin);
  });
}

}  // namespace crumb::kernels
