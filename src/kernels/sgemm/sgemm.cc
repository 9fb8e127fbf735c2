#include "kernels/sgemm.h"

#include <algorithm>
#include <memory>
#include <new>

#include "base/parallel_for.h"
#include "kernels/sgemm/blocking.h"

namespace crumb::kernels {
namespace {

struct Free {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};

}  // namespace

std::span<const Variant<SgemmFunctions>> sgemm_variants() {
  static const Variant<SgemmFunctions> kVariants[] = {
      {Isa::kAvx512, sgemm_avx512()}, {Isa::kAvx2, sgemm_avx2()}, {Isa::kRef, sgemm_ref()}};
  return kVariants;
}

SgemmFn own_sgemm() {
  return choose(sgemm_variants()).run->run;
}

std::int64_t sgemm_workspace_floats() noexcept {
  return kSgemmWorkspace;
}

void sgemm(const SgemmArgs& args) {
  const SgemmFn run = own_sgemm();
  const bool by_rows = args.m >= args.n;
  const std::int64_t extent = by_rows ? args.m : args.n,
                     step = by_rows ? 48 : 96;  // multiples of every register tile
  const std::int64_t steps = (extent + step - 1) / step;
  const std::int64_t work = std::max<std::int64_t>(
      1, args.m * args.n * std::max<std::int64_t>(args.k, 1) / std::max<std::int64_t>(steps, 1));
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 20) / work);
  const std::int64_t parts = std::max<std::int64_t>(1, std::min<std::int64_t>(omp_get_max_threads(), steps));
  // One workspace a part, from here: a variant allocates nothing.
  const std::unique_ptr<float[], Free> workspace(static_cast<float*>(::operator new[](
      static_cast<std::size_t>(parts * kSgemmWorkspace) * sizeof(float), std::align_val_t{64})));
  parallel_for(steps, grain, [&](std::int64_t begin, std::int64_t end) {
    SgemmArgs part = args;
    const std::int64_t first = begin * step, count = std::min(end * step, extent) - first;
    if (by_rows) {
      part.a += args.transpose_a ? first : first * args.lda;
      part.c += first * args.ldc;
      part.m = count;
    } else {
      part.b += args.transpose_b ? first * args.ldb : first;
      part.c += first;
      part.n = count;
    }
    run(part, workspace.get() + omp_get_thread_num() % parts * kSgemmWorkspace);
  });
}

}  // namespace crumb::kernels
