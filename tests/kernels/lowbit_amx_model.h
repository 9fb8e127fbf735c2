// The low-bit AMX variant on a software model of the tiles, for machines without them. It needs AVX-512 with
// VNNI.
#pragma once
#include "kernels/lowbit.h"

namespace crumb::kernels::test {

const LowbitFunctions* lowbit_amx_model() noexcept;
/// How many tile products the model has made.
std::int64_t lowbit_amx_model_products() noexcept;

}  // namespace crumb::kernels::test
