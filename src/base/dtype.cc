#include "base/dtype.h"

namespace crumb {
namespace {
struct Row {
  DType dtype;
  std::string_view name;
  std::int64_t bytes;
  bool is_float;
};
constexpr Row kRows[] = {
    {DType::kF64, "F64", 8, true},   {DType::kF32, "F32", 4, true},  {DType::kF16, "F16", 2, true},
    {DType::kBF16, "BF16", 2, true}, {DType::kI64, "I64", 8, false}, {DType::kI32, "I32", 4, false},
    {DType::kI16, "I16", 2, false},  {DType::kI8, "I8", 1, false},   {DType::kU64, "U64", 8, false},
    {DType::kU32, "U32", 4, false},  {DType::kU16, "U16", 2, false}, {DType::kU8, "U8", 1, false},
    {DType::kBool, "BOOL", 1, false}};
const Row& row(DType dtype) {
  return kRows[static_cast<int>(dtype)];
}
}  // namespace

std::int64_t size_bytes(DType dtype) noexcept {
  return row(dtype).bytes;
}
bool is_float(DType dtype) noexcept {
  return row(dtype).is_float;
}
std::string_view to_string(DType dtype) noexcept {
  return row(dtype).name;
}

std::optional<DType> parse_dtype(std::string_view text) noexcept {
  for (const Row& candidate : kRows) {
    if (candidate.name == text) return candidate.dtype;
  }
  return std::nullopt;
}

}  // namespace crumb
