// Element types of stored tensors.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace crumb {

enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU64, kU32, kU16, kU8, kBool };

std::int64_t size_bytes(DType dtype) noexcept;
bool is_float(DType dtype) noexcept;
/// The spelling of safetensors headers: "F32", "BF16", "I32" …
std::string_view to_string(DType dtype) noexcept;
std::optional<DType> parse_dtype(std::string_view text) noexcept;

}  // namespace crumb
