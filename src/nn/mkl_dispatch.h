// MKL, inside libtorch, takes slower kernels on processors that are not Intel's.
#pragma once

namespace crumb::nn {

/// Whether MKL is told that the processor is Intel's, which makes f32 products 15-25 % faster on AMD
/// processors with AVX2 (docs/numerics.md). CRUMB_MKL_DISPATCH=vendor leaves the choice to MKL. Read once,
/// before the first product.
bool mkl_takes_intel_path() noexcept;

}  // namespace crumb::nn
