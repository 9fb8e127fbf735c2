#include "kernels/registry.h"

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/cached_attention.h"
#include "kernels/dense_linear.h"
#include "kernels/fake_quant.h"
#include "kernels/gemm_bf16.h"
#include "kernels/kv_store.h"
#include "kernels/logits.h"
#include "kernels/lowbit.h"
#include "kernels/mse.h"
#include "kernels/packed.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/sgemm.h"
#include "kernels/swiglu.h"
#include "kernels/token_quant.h"

namespace crumb::kernels {
namespace {

template <class Functions>
OperationInfo info(std::string operation, std::span<const Variant<Functions>> variants) {
  OperationInfo result{std::move(operation), {}, choose(variants).isa};
  for (const auto& variant : variants) {
    if (variant.run != nullptr) result.built.push_back(variant.isa);
  }
  return result;
}

}  // namespace

std::vector<OperationInfo> list_operations() {
  return {info("fake_quant", fake_quant_variants()),
          info("packed", packed_variants()),
          info("rms_norm", rms_norm_variants()),
          info("rope", rope_variants()),
          info("swiglu", swiglu_variants()),
          info("sgemm", sgemm_variants()),
          info("attention", attention_variants()),
          info("gemm_bf16", gemm_bf16_variants()),
          info("adamw", adamw_variants()),
          info("mse", mse_variants()),
          info("logits", logits_variants()),
          info("lowbit", lowbit_variants()),
          info("dense_linear", dense_linear_variants()),
          info("token_quant", token_quant_variants()),
          info("kv_store", kv_store_variants()),
          info("cached_attention", cached_attention_variants())};
}

}  // namespace crumb::kernels
