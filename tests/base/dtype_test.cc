#include "base/dtype.h"

#include <gtest/gtest.h>

#include <string>

namespace crumb {
namespace {

constexpr DType kAll[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                          DType::kI32, DType::kI16, DType::kI8,  DType::kU64,  DType::kU32,
                          DType::kU16, DType::kU8,  DType::kBool};

TEST(DType, NamesParseBack) {
  for (const DType dtype : kAll) EXPECT_EQ(parse_dtype(to_string(dtype)), dtype);
}

TEST(DType, UnknownNamesAreNotGuessed) {
  for (const char* text : {"", "f32", "F8_E4M3", "F32 ", "F3"})
    EXPECT_EQ(parse_dtype(text), std::nullopt) << text;
}

TEST(DType, SizeIsTheNumberInTheName) {
  for (const DType dtype : kAll) {
    if (dtype == DType::kBool) continue;
    const std::string name(to_string(dtype));
    EXPECT_EQ(size_bytes(dtype) * 8, std::stoi(name.substr(name.find_first_of("0123456789")))) << name;
    EXPECT_EQ(is_float(dtype), name.find('F') != std::string::npos) << name;
  }
  EXPECT_EQ(size_bytes(DType::kBool), 1);
}

}  // namespace
}  // namespace crumb
