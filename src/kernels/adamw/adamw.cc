#include "kernels/adamw.h"

#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"

namespace crumb::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;
constexpr std::int64_t kSumChunk = 65536;  // the sum's parts depend on count only

const AdamWFunctions& active() {
  return *choose(adamw_variants()).run;
}

}  // namespace

std::span<const Variant<AdamWFunctions>> adamw_variants() {
  static const Variant<AdamWFunctions> kVariants[] = {
      {Isa::kAvx512, adamw_avx512()}, {Isa::kAvx2, adamw_avx2()}, {Isa::kRef, adamw_ref()}};
  return kVariants;
}

AdamWCoefficients adamw_coefficients(std::int64_t step, const AdamWOptions& o) {
  CRUMB_CHECK(step >= 1);
  const auto t = static_cast<double>(step);
  return {static_cast<float>(1.0 - o.lr * o.weight_decay),
          static_cast<float>(1.0 - o.beta1),
          static_cast<float>(o.beta2),
          static_cast<float>(1.0 - o.beta2),
          static_cast<float>(o.lr / (1.0 - std::pow(o.beta1, t))),
          static_cast<float>(std::sqrt(1.0 - std::pow(o.beta2, t))),
          static_cast<float>(o.eps)};
}

void adamw_step(float* w, const float* grad, float* m, float* v, std::int64_t count, std::int64_t step,
                const AdamWOptions& options) {
  const AdamWCoefficients c = adamw_coefficients(step, options);
  const auto run = active().step;
  parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    run(w + begin, grad + begin, m + begin, v + begin, end - begin, c);
  });
}

double sum_of_squares(const float* x, std::int64_t count) {
  const auto run = active().sum_of_squares;
  const std::int64_t chunks = (count + kSumChunk - 1) / kSumChunk;
  std::vector<double> sums(static_cast<std::size_t>(chunks));
  parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      sums[static_cast<std::size_t>(i)] = run(x + i * kSumChunk, std::min(kSumChunk, count - i * kSumChunk));
    }
  });
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

}  // namespace crumb::kernels
