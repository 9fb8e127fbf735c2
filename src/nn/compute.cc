#include "nn/compute.h"

#include <omp.h>

#include <ATen/Parallel.h>

#include "base/error.h"
#include "kernels/gemm_bf16.h"
#include "kernels/isa.h"
#include "nn/mkl_dispatch.h"

namespace crumb::nn {

Precision resolve_precision(std::string_view word, const at::Device& device) {
  const bool fast = device.is_cuda() || kernels::gemm_bf16_isa() == kernels::Isa::kAmx;
  if (word == "f32") return Precision::kF32;
  if (word == "auto") return fast ? Precision::kBf16 : Precision::kF32;
  if (word == "bf16") {
    if (device.is_cpu() && !kernels::has_fast_gemm_bf16()) {
      fail(ErrorKind::kUnsupported, "nn.precision", "bf16: this processor has ", kernels::machine_isas(),
           "; want AMX or AVX-512 BF16, anything else would emulate it many times slower; take f32");
    }
    return Precision::kBf16;
  }
  fail(ErrorKind::kInvalidArgument, "nn.precision", word, ": want auto, f32 or bf16");
}

std::string_view to_string(Precision precision) noexcept {
  return precision == Precision::kF32 ? "f32" : "bf16";
}

at::Device resolve_device(std::string_view word) {
  const bool cuda = at::hasCUDA();
  if (word == "cpu" || (word == "auto" && !cuda)) return at::Device(at::kCPU);
  if (word == "cuda" || word == "auto") {
    if (!cuda) {
      fail(ErrorKind::kUnsupported, "nn.device",
           "cuda: this build or this machine has no CUDA device; want a GPU, its driver and a build with "
           "-DCRUMB_CUDA=ON; take --device cpu");
    }
    return at::Device(at::kCUDA, 0);
  }
  fail(ErrorKind::kInvalidArgument, "nn.device", word, ": want auto, cpu or cuda");
}

void set_threads(int threads) {
  if (threads < 0 || threads > 1024) {
    fail(ErrorKind::kInvalidArgument, "nn.threads", threads, ": want 1 … 1024, or 0 for all cores");
  }
  mkl_takes_intel_path();
  if (threads > 0) {
    at::set_num_threads(threads);
    omp_set_num_threads(threads);
  }
}

}  // namespace crumb::nn
