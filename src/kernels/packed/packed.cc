#include "kernels/packed.h"

#include "base/check.h"
#include "base/parallel_for.h"

namespace crumb::kernels {
namespace {

const PackedFunctions& active() {
  return *choose(packed_variants()).run;
}
std::int64_t grain(const PackedArgs& args) {
  return std::max<std::int64_t>(1, 16384 / args.k);
}

}  // namespace

std::span<const Variant<PackedFunctions>> packed_variants() {
  static const Variant<PackedFunctions> kVariants[] = {
      {Isa::kAvx512, packed_avx512()}, {Isa::kAvx2, packed_avx2()}, {Isa::kRef, packed_ref()}};
  return kVariants;
}

PackedArgs packed_args(const std::uint32_t* words, const std::uint8_t* zero_points, const float* scales,
                       std::int64_t n, std::int64_t k, const quant::AffineSpec& spec) {
  CRUMB_CHECK(spec.bits == 2 || spec.bits == 3 || spec.bits == 4 || spec.bits == 8);
  CRUMB_CHECK(n >= 0 && k > 0 && k * spec.bits % 32 == 0 && spec.group_of(k) > 0 &&
              k % spec.group_of(k) == 0);
  return {words, zero_points, scales, n, k, spec.group_of(k), spec.bits};
}

void dequantize_packed(const PackedArgs& args, float* w_hat) {
  const auto run = active().dequantize;
  parallel_for(args.n, grain(args),
               [&](std::int64_t begin, std::int64_t end) { run(args, begin, end, w_hat); });
}

void dequantize_packed_bf16(const PackedArgs& args, std::uint16_t* w_hat) {
  const auto run = active().dequantize_bf16;
  parallel_for(args.n, grain(args),
               [&](std::int64_t begin, std::int64_t end) { run(args, begin, end, w_hat); });
}

void packed_scale_gradient(const PackedArgs& args, const float* grad_w_hat, float* grad_scale) {
  const auto run = active().scale_gradient;
  parallel_for(args.n, grain(args),
               [&](std::int64_t begin, std::int64_t end) { run(args, begin, end, grad_w_hat, grad_scale); });
}

}  // namespace crumb::kernels
