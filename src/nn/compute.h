// How a forward or backward pass is computed. None of this belongs to a method: a recipe names a precision,
// the rest is performance.
#pragma once
#include <string_view>

#include "nn/torch.h"

namespace crumb::nn {

/// Precision of matrix products. Activations, the residual stream, norms, softmax and every sum stay f32 in
/// both, so that values of 10^4 (massive activations) keep their digits; kBf16 rounds the operands of
/// products only.
enum class Precision { kF32, kBf16 };

struct Compute {
  Precision precision = Precision::kF32;
  bool fused = true;  // crumb's own operators (CPU); false: the composed ATen twins, the oracle of the tests
  bool eager_attention =
      false;  // of the twins: explicit T x T scores instead of at::scaled_dot_product_attention
};

/// "f32", "bf16", or "auto": bf16 where the processor has fast bf16 products (AMX; any CUDA device), else
/// f32. Throws InvalidArgument for another word, and Unsupported for "bf16" on a processor that would emulate
/// it (60 times slower on AVX2).
Precision resolve_precision(std::string_view word, const at::Device& device);
std::string_view to_string(Precision precision) noexcept;

/// "cpu", "cuda", or "auto" (cuda when this build and machine have it). Throws Unsupported for "cuda" without
/// it.
at::Device resolve_device(std::string_view word);

/// Threads of ATen and OpenMP; 0 means all cores. Throws InvalidArgument below 0 or above 1024.
void set_threads(int threads);

}  // namespace crumb::nn
