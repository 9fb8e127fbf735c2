#include "kernels/rms_norm.h"

#include <vector>

#include "base/parallel_for.h"

namespace crumb::kernels {
namespace {

const RmsNormFunctions& active() {
  return *choose(rms_norm_variants()).run;
}
std::int64_t grain(std::int64_t h) {
  return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(h, 1));
}

// Rows whose weight gradients are summed in f32 before the f64 sum over chunks.
constexpr std::int64_t kChunkRows = 32;

}  // namespace

std::span<const Variant<RmsNormFunctions>> rms_norm_variants() {
  static const Variant<RmsNormFunctions> kVariants[] = {
      {Isa::kAvx512, rms_norm_avx512()}, {Isa::kAvx2, rms_norm_avx2()}, {Isa::kRef, rms_norm_ref()}};
  return kVariants;
}

void rms_norm(const float* x, const float* weight, float eps, std::int64_t m, std::int64_t h, float* y,
              float* rstd) {
  const auto run = active().forward;
  parallel_for(m, grain(h), [&](std::int64_t begin, std::int64_t end) {
    run(x + begin * h, weight, eps, end - begin, h, y + begin * h, rstd + begin);
  });
}

void rms_norm_backward(const float* x, const float* weight, const float* rstd, const float* grad_y,
                       std::int64_t m, std::int64_t h, float* grad_x, float* grad_weight) {
  const auto run = active().backward;
  if (grad_weight == nullptr) {
    parallel_for(m, grain(h), [&](std::int64_t begin, std::int64_t end) {
      run(x + begin * h, weight, rstd + begin, grad_y + begin * h, end - begin, h, grad_x + begin * h,
          nullptr);
    });
    return;
  }
  const std::int64_t chunks = (m + kChunkRows - 1) / kChunkRows;
  std::vector<float> partial(static_cast<std::size_t>(chunks * h), 0.0f);
  parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      const std::int64_t first = chunk * kChunkRows, rows = std::min(kChunkRows, m - first);
      run(x + first * h, weight, rstd + first, grad_y + first * h, rows, h, grad_x + first * h,
          partial.data() + chunk * h);
    }
  });
  parallel_for(h, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      double sum = 0;
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
        sum += partial[static_cast<std::size_t>(chunk * h + j)];
      grad_weight[j] = static_cast<float>(sum);
    }
  });
}

}  // namespace crumb::kernels
