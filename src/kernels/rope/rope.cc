#include "kernels/rope.h"

#include "base/check.h"
#include "base/parallel_for.h"

namespace crumb::kernels {
namespace {

void run(const RopeArgs& args, float sign) {
  CRUMB_CHECK(args.rotary_dim % 2 == 0 && args.rotary_dim <= args.head_dim);
  CRUMB_CHECK(args.x_stride >= args.heads * args.head_dim && args.y_stride >= args.heads * args.head_dim);
  const auto rotate = choose(rope_variants()).run->rotate;
  const std::int64_t grain =
      std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, args.heads * args.head_dim));
  parallel_for(args.batch * args.tokens, grain,
               [&](std::int64_t begin, std::int64_t end) { rotate(args, sign, begin, end); });
}

}  // namespace

std::span<const Variant<RopeFunctions>> rope_variants() {
  static const Variant<RopeFunctions> kVariants[] = {
      {Isa::kAvx512, rope_avx512()}, {Isa::kAvx2, rope_avx2()}, {Isa::kRef, rope_ref()}};
  return kVariants;
}

void rope(const RopeArgs& args) {
  run(args, 1.0f);
}
void rope_backward(const RopeArgs& args) {
  run(args, -1.0f);
}

}  // namespace crumb::kernels
