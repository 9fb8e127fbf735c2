#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/half.h"
#include "io/bytes.h"
#include "support/expect_error.h"
#include "support/shared_data.h"
#include "support/temp_dir.h"

namespace crumb::io {
namespace {

using test::expect_error;
using test::read_bytes;
using test::write_bytes;

template <class T>
TensorToWrite tensor(std::string name, DType dtype, std::vector<std::int64_t> shape, std::vector<T> values) {
  return {std::move(name), dtype, std::move(shape), [values = std::move(values)] {
            std::vector<std::byte> bytes(values.size() * sizeof(T));
            if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
            return bytes;
          }};
}

// docs/formats/safetensors.md, worked example: {"a": F16 [2] = 1.0, -2.0}.
constexpr std::string_view kExample =
    "38000000000000007b2261223a7b226474797065223a22463136222c227368617065223a5b325d2c22646174615f6f6666736574"
    "73223a5b302c345d7d7d2020"
    "003c00c0";

TEST(SafetensorsFile, ReadsTheDocumentedExample) {
  const test::TempDir dir;
  write_bytes(dir / "f", test::Bytes().hex(kExample).text());
  const SafetensorsFile file(dir / "f");
  ASSERT_EQ(file.tensors().size(), 1u);
  EXPECT_EQ(file.tensors()[0].shape, std::vector<std::int64_t>{2});
  EXPECT_EQ(file.read_f32("a"), (std::vector<float>{1, -2}));
  EXPECT_EQ(file.find("b"), nullptr);
  EXPECT_TRUE(file.metadata().empty());
}

TEST(WriteSafetensors, WritesTheDocumentedExampleByteForByte) {
  const test::TempDir dir;
  write_safetensors(dir / "f", {tensor<std::uint16_t>("a", DType::kF16, {2}, {0x3c00, 0xc000})}, {});
  EXPECT_EQ(read_bytes(dir / "f"), test::Bytes().hex(kExample).text());
}

TEST(WriteSafetensors, EveryDtypeSurvivesTheRoundTrip) {
  const test::TempDir dir;
  const std::vector<std::int64_t> two = {2};
  write_safetensors_atomically(
      dir / "f",
      {tensor<std::uint8_t>("bool", DType::kBool, two, {0, 1}),
       tensor<std::uint8_t>("u8", DType::kU8, two, {3, 255}),
       tensor<std::int8_t>("i8", DType::kI8, two, {-128, 127}),
       tensor<std::uint16_t>("u16", DType::kU16, two, {1, 65535}),
       tensor<std::int16_t>("i16", DType::kI16, two, {-32768, 5}),
       tensor<std::uint32_t>("u32", DType::kU32, two, {7, 0xE4E4E4E4u}),
       tensor<std::int32_t>("i32", DType::kI32, two, {-454761244, 9}),
       tensor<std::uint64_t>("u64", DType::kU64, two, {1, 2}),
       tensor<std::int64_t>("i64", DType::kI64, two, {-1, 70000}),
       tensor<double>("f64", DType::kF64, two, {0.1, -1e300}),
       tensor<float>("f32", DType::kF32, two, {0.1f, -3}),
       tensor<std::uint16_t>("bf16", DType::kBF16, two, {0x3f80, 0xc000}),
       tensor<float>("scalar", DType::kF32, {}, {42}), tensor<float>("empty", DType::kF32, {0, 5}, {})},
      {{"format", "pt"}, {"note", "\"quoted\" ü"}});
  const SafetensorsFile file(dir / "f");
  EXPECT_EQ(file.metadata().at("note"), "\"quoted\" ü");
  EXPECT_EQ(file.metadata().size(), 2u);
  ASSERT_EQ(file.tensors().size(), 14u);
  EXPECT_EQ(file.read_u8("bool"), (std::vector<std::uint8_t>{0, 1}));
  EXPECT_EQ(file.read_u8("u8"), (std::vector<std::uint8_t>{3, 255}));
  EXPECT_EQ(file.read_i32("i8"), (std::vector<std::int32_t>{-128, 127}));
  EXPECT_EQ(file.read_i32("u16"), (std::vector<std::int32_t>{1, 65535}));
  EXPECT_EQ(file.read_i32("i16"), (std::vector<std::int32_t>{-32768, 5}));
  EXPECT_EQ(file.read_i32("u32"), (std::vector<std::int32_t>{7, -454761244}));  // words, bit for bit
  EXPECT_EQ(file.read_i32("i32"), (std::vector<std::int32_t>{-454761244, 9}));
  EXPECT_EQ(file.read_i32("i64"), (std::vector<std::int32_t>{-1, 70000}));
  EXPECT_EQ(file.read_f64("f64"), (std::vector<double>{0.1, -1e300}));
  EXPECT_EQ(file.read_f32("f32"), (std::vector<float>{0.1f, -3}));
  EXPECT_EQ(file.read_f32("bf16"), (std::vector<float>{1, -2}));
  EXPECT_EQ(file.read_f32("i64"), (std::vector<float>{-1, 70000}));
  EXPECT_EQ(file.read_f32("scalar"), std::vector<float>{42});
  EXPECT_EQ(file.at("scalar").shape.size(), 0u);
  EXPECT_EQ(file.at("empty").elements(), 0);
  // Every tensor lies at a multiple of its element size in the file, and so in memory.
  for (const TensorInfo& info : file.tensors()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.bytes(info).data()) %
                  static_cast<std::uintptr_t>(size_bytes(info.dtype)),
              0u)
        << info.name;
  }
  expect_error(ErrorKind::kUnsupported, {"f32", "integers"}, [&] { file.read_i32("f32"); });
  expect_error(ErrorKind::kUnsupported, {"i8", "-128"}, [&] { file.read_u8("i8"); });
  expect_error(ErrorKind::kNotFound, {"scalr", "scalar"}, [&] { file.at("scalr"); });
}

TEST(WriteSafetensors, SameTensorsInAnotherOrderGiveTheSameFile) {
  const test::TempDir dir;
  const auto a = tensor<float>("a", DType::kF32, {1}, {1}),
             b = tensor<std::uint8_t>("b", DType::kU8, {1}, {2}),
             c = tensor<double>("c", DType::kF64, {1}, {3});
  write_safetensors(dir / "f", {a, b, c}, {});
  write_safetensors(dir / "g", {b, c, a}, {});
  EXPECT_EQ(read_bytes(dir / "f"), read_bytes(dir / "g"));
  EXPECT_EQ(SafetensorsFile(dir / "f").tensors().front().name, "c");
}

TEST(WriteSafetensors, RefusesWhatReadersWouldRefuse) {
  const test::TempDir dir;
  const auto good = tensor<float>("a", DType::kF32, {2}, {1, 2});
  const auto refuse = [&](std::vector<TensorToWrite> tensors, std::initializer_list<std::string_view> parts) {
    expect_error(ErrorKind::kInvalidArgument, parts,
                 [&] { write_safetensors_atomically(dir / "f", std::move(tensors), {}); });
    EXPECT_FALSE(std::filesystem::exists(dir / "f"));
  };
  refuse({good, good}, {"'a'", "twice"});
  refuse({tensor<float>("short", DType::kF32, {3}, {1, 2})}, {"short", "8 bytes", "12"});
  refuse({tensor<float>("__metadata__", DType::kF32, {1}, {1})}, {"__metadata__"});
  refuse({tensor<float>("n", DType::kF32, {-1}, {})}, {"'n'", "[-1]"});
  refuse({tensor<float>("n", DType::kF32, {std::int64_t{1} << 40, std::int64_t{1} << 40}, {})}, {"'n'"});
  refuse({tensor<float>("\xff", DType::kF32, {1}, {1})}, {"UTF-8"});
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(WriteSafetensors, AsksForEachTensorOnceAndInTurn) {
  const test::TempDir dir;
  std::vector<std::string> asked;
  std::vector<TensorToWrite> tensors;
  for (const char* name : {"b", "a", "c"}) {
    tensors.push_back({name, DType::kU8, {1}, [&asked, name] {
                         asked.push_back(name);
                         return std::vector<std::byte>(1);
                       }});
  }
  write_safetensors(dir / "f", std::move(tensors), {});
  EXPECT_EQ(asked, (std::vector<std::string>{"a", "b", "c"}));
}

TEST(WriteShardedSafetensors, SplitsAndIndexes) {
  const test::TempDir dir;
  std::vector<TensorToWrite> tensors;
  for (int i = 0; i < 5; ++i)
    tensors.push_back(
        tensor<float>(cat("t", i), DType::kF32, {10}, std::vector<float>(10, static_cast<float>(i))));
  write_sharded_safetensors(dir.path(), tensors, 80);  // 40 bytes each: two a shard
  const auto index = nlohmann::json::parse(read_bytes(dir / "model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 200);
  EXPECT_EQ(index["weight_map"].size(), 5u);
  for (int i = 0; i < 5; ++i) {
    const std::string shard = index["weight_map"][cat("t", i)];
    EXPECT_EQ(shard, cat("model-0000", i / 2 + 1, "-of-00003.safetensors"));
    const SafetensorsFile file(dir / shard);
    EXPECT_EQ(file.read_f32(cat("t", i))[9], static_cast<float>(i));
    EXPECT_EQ(file.metadata().at("format"), "pt");
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "model.safetensors"));
}

TEST(WriteShardedSafetensors, OneShardNeedsNoIndex) {
  const test::TempDir dir;
  write_sharded_safetensors(dir.path(), {tensor<float>("large", DType::kF32, {10}, std::vector<float>(10))},
                            1000);
  EXPECT_TRUE(std::filesystem::exists(dir / "model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(dir / "model.safetensors.index.json"));
  expect_error(ErrorKind::kInvalidArgument, {"shard_bytes"},
               [&] { write_sharded_safetensors(dir.path(), {}, 0); });
}

TEST(ConvertFromF32, RoundsHalfToEvenAndComesBack) {
  const std::vector<float> values = {0.1f, -65504, 1.00048828125f, 1e-8f,
                                     std::numeric_limits<float>::infinity()};
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<float> back(values.size());
    convert_to_f32(convert_from_f32(values, dtype), dtype, back);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float expected = dtype == DType::kF16    ? round_to_f16(values[i])
                             : dtype == DType::kBF16 ? bf16_to_float(float_to_bf16(values[i]))
                                                     : values[i];
      EXPECT_EQ(back[i], expected) << to_string(dtype) << " " << values[i];
    }
  }
}

// Files of the reference implementation.
TEST(SafetensorsFile, ReadsFilesThatOthersWrote) {
  const auto path = test::shared_path("golden/efficientqat/packing.safetensors");
  CRUMB_SKIP_WITHOUT(path, "golden/efficientqat/packing.safetensors");
  const SafetensorsFile file(*path);
  EXPECT_GT(file.tensors().size(), 0u);
  for (const TensorInfo& info : file.tensors()) EXPECT_EQ(file.bytes(info).size(), info.size);
}

}  // namespace
}  // namespace crumb::io
