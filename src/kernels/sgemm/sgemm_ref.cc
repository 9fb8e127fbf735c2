#include "kernels/sgemm.h"

namespace crumb::kernels {
namespace {

void run(const SgemmArgs& g, float*) {
  for (std::int64_t i = 0; i < g.m; ++i) {
    for (std::int64_t j = 0; j < g.n; ++j) {
      double sum = g.accumulate ? g.c[i * g.ldc + j] : 0.0;
      for (std::int64_t l = 0; l < g.k; ++l) {
        const float a = g.transpose_a ? g.a[l * g.lda + i] : g.a[i * g.lda + l];
        const float b = g.transpose_b ? g.b[j * g.ldb + l] : g.b[l * g.ldb + j];
        sum += static_cast<double>(a) * b;
      }
      g.c[i * g.ldc + j] = static_cast<float>(sum);
    }
  }
}

}  // namespace

const SgemmFunctions* sgemm_ref() noexcept {
  static constexpr SgemmFunctions kFunctions = {run};
  return &kFunctions;
}

}  // namespace crumb::kernels
