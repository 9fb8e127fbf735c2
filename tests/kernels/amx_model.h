// The AMX product on a software model of the tiles, for machines without them. It needs AVX-512 for the
// packing.
#pragma once
#include "kernels/gemm_bf16.h"

namespace crumb::kernels::test {

const GemmBf16Functions* amx_model() noexcept;
/// How many tile products the model has made, over all threads.
std::int64_t amx_model_products() noexcept;

}  // namespace crumb::kernels::test
