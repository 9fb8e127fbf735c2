#include "kernels/fake_quant.h"

#include "base/check.h"
#include "base/parallel_for.h"

namespace crumb::kernels {
namespace {

const FakeQuantFunctions& active() {
  return *choose(fake_quant_variants()).run;
}

// Below some 16 thousand weights a parallel region costs more than it saves.
std::int64_t grain(const FakeQuantArgs& args) {
  return std::max<std::int64_t>(1, 16384 / args.group_size);
}

}  // namespace

std::span<const Variant<FakeQuantFunctions>> fake_quant_variants() {
  static const Variant<FakeQuantFunctions> kVariants[] = {
      {Isa::kAvx512, fake_quant_avx512()}, {Isa::kAvx2, fake_quant_avx2()}, {Isa::kRef, fake_quant_ref()}};
  return kVariants;
}

FakeQuantArgs fake_quant_args(const float* w, const float* scale, const float* zero_point, std::int64_t n,
                              std::int64_t k, const quant::AffineSpec& spec) {
  CRUMB_CHECK(n >= 0 && k > 0 && spec.group_of(k) > 0 && k % spec.group_of(k) == 0);
  const float half = static_cast<float>(1 << (spec.bits - 1)), max_code = static_cast<float>(spec.max_code());
  const bool symmetric = spec.grid == quant::Grid::kSignedSym;
  return {w,
          scale,
          zero_point,
          n * spec.groups(k),
          spec.group_of(k),
          symmetric ? half - 1 : 0.0f,
          symmetric ? half : max_code,
          max_code};
}

void fake_quant(const FakeQuantArgs& args, float* w_hat) {
  const auto run = active().forward;
  parallel_for(args.groups, grain(args),
               [&](std::int64_t begin, std::int64_t end) { run(args, begin, end, w_hat); });
}

void fake_quant_bf16(const FakeQuantArgs& args, std::uint16_t* w_hat) {
  const auto run = active().forward_bf16;
  parallel_for(args.groups, grain(args),
               [&](std::int64_t begin, std::int64_t end) { run(args, begin, end, w_hat); });
}

void fake_quant_backward(const FakeQuantArgs& args, const float* grad_w_hat, float* grad_w, float* grad_scale,
                         float* grad_zero_point) {
  const auto run = active().backward;
  parallel_for(args.groups, grain(args), [&](std::int64_t begin, std::int64_t end) {
    run(args, begin, end, grad_w_hat, grad_w, grad_scale, grad_zero_point);
  });
}

}  // namespace crumb::kernels
