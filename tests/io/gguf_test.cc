#include "io/gguf.h"

#include <gtest/gtest.h>

#include "io/bytes.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::io {
namespace {

using test::Bytes;
using test::expect_error;
using test::read_bytes;
using test::write_bytes;

void put_string(Bytes& bytes, std::string_view text) {
  bytes.put<std::uint64_t>(text.size()).raw(text);
}

// docs/formats/gguf.md, worked example: one Q4_0 tensor "a" [32] of a llama file, 160 bytes.
std::string example() {
  return Bytes()
      .hex(
          "4747554603000000 0100000000000000 0100000000000000 1400000000000000 "
          "67656e6572616c2e617263686974656374757265"
          "08000000 0500000000000000 6c6c616d61 0100000000000000 61 01000000 2000000000000000 02000000 "
          "0000000000000000")
      .pad(32)
      .hex("0038 43ba21980f76ed54cb32a91087fe65dc")
      .pad(32)
      .text();
}

std::uint64_t eighteen(const GgufTensor&) {
  return 18;
}

TEST(GgufFile, ReadsTheDocumentedExample) {
  const test::TempDir dir;
  ASSERT_EQ(example().size(), 160u);
  write_bytes(dir / "f", example());
  const GgufFile file(dir / "f");
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.get_string("general.architecture"), "llama");
  ASSERT_EQ(file.tensors().size(), 1u);
  const GgufTensor& tensor = *file.find("a");
  EXPECT_EQ(tensor.dims, std::vector<std::int64_t>{32});
  EXPECT_EQ(tensor.type, 2u);
  EXPECT_NO_THROW(file.check_extents(eighteen));
  EXPECT_EQ(std::to_integer<int>(file.bytes(tensor, 18)[2]), 0x43);
  EXPECT_EQ(file.find("b"), nullptr);
  expect_error(ErrorKind::kCorrupt, {"'a'", "33"}, [&] { file.bytes(tensor, 33); });
}

TEST(WriteGguf, WritesTheDocumentedExampleByteForByte) {
  const test::TempDir dir;
  write_bytes(dir / "f", example());
  const GgufFile file(dir / "f");
  const auto bytes = file.bytes(*file.find("a"), 18);
  write_gguf(dir / "g", {{"general.architecture", std::string("llama")}},
             {{"a", {32}, 2, {bytes.begin(), bytes.end()}}});
  EXPECT_EQ(read_bytes(dir / "g"), example());
}

TEST(GgufFile, ReadsEveryMetadataTypeInVersions2And3) {
  const test::TempDir dir;
  for (const std::uint32_t version : {2u, 3u}) {
    Bytes b;
    b.raw("GGUF").put(version).put<std::uint64_t>(0).put<std::uint64_t>(17);
    const auto key = [&](std::string_view name, std::uint32_t type) -> Bytes& {
      put_string(b, name);
      return b.put(type);
    };
    key("u8", 0).put<std::uint8_t>(200);
    key("i8", 1).put<std::int8_t>(-100);
    key("u16", 2).put<std::uint16_t>(60000);
    key("i16", 3).put<std::int16_t>(-30000);
    key("u32", 4).put<std::uint32_t>(4000000000u);
    key("i32", 5).put<std::int32_t>(-2000000000);
    key("f32", 6).put<float>(0.1f);
    key("bool", 7).put<std::uint8_t>(1);
    key("string", 8);
    put_string(b, "text \xff");
    key("u64", 10).put<std::uint64_t>(~std::uint64_t{0});
    key("i64", 11).put<std::int64_t>(-5000000000);
    key("f64", 12).put<double>(0.1);
    key("u16s", 9).put<std::uint32_t>(2).put<std::uint64_t>(2).put<std::uint16_t>(1).put<std::uint16_t>(
        65535);
    key("bools", 9).put<std::uint32_t>(7).put<std::uint64_t>(3).raw(std::string_view("\1\0\1", 3));
    key("f32s", 9).put<std::uint32_t>(6).put<std::uint64_t>(2).put<float>(-1000).put<float>(0.5f);
    key("strings", 9).put<std::uint32_t>(8).put<std::uint64_t>(2);
    put_string(b, "");
    put_string(b, "b");
    key("none", 9).put<std::uint32_t>(8).put<std::uint64_t>(0);
    write_bytes(dir / "f", b.text());
    const GgufFile file(dir / "f");
    EXPECT_EQ(file.version(), version);
    EXPECT_EQ(file.get_int("u8"), 200);
    EXPECT_EQ(file.get_int("i8"), -100);
    EXPECT_EQ(file.get_int("u16"), 60000);
    EXPECT_EQ(file.get_int("i16"), -30000);
    EXPECT_EQ(file.get_int("u32"), 4000000000);
    EXPECT_EQ(file.get_int("i32"), -2000000000);
    EXPECT_EQ(file.get_float("f32"), static_cast<double>(0.1f));
    EXPECT_EQ(file.get_float("i8"), -100);
    EXPECT_TRUE(file.get_bool("bool", false));
    EXPECT_EQ(file.get_string("string"), "text \xff");
    EXPECT_EQ(std::get<std::uint64_t>(file.metadata().at("u64")), ~std::uint64_t{0});
    EXPECT_EQ(file.get_int("i64"), -5000000000);
    EXPECT_EQ(file.get_float("f64"), 0.1);
    EXPECT_EQ(*file.find_ints("u16s"), (std::vector<std::int64_t>{1, 65535}));
    EXPECT_EQ(*file.find_ints("bools"), (std::vector<std::int64_t>{1, 0, 1}));
    EXPECT_EQ(*file.find_floats("f32s"), (std::vector<double>{-1000, 0.5}));
    EXPECT_EQ(*file.find_strings("strings"), (std::vector<std::string>{"", "b"}));
    EXPECT_TRUE(file.find_strings("none")->empty());
    EXPECT_EQ(file.find_ints("f32s"), nullptr);
    EXPECT_EQ(file.find_strings("absent"), nullptr);
    EXPECT_EQ(file.get_int("absent", 7), 7);
    EXPECT_EQ(file.get_float("absent", 0.5), 0.5);
    EXPECT_EQ(file.get_string("absent", "x"), "x");
    EXPECT_TRUE(file.get_bool("absent", true));
    expect_error(ErrorKind::kNotFound, {"absent"}, [&] { file.get_int("absent"); });
    expect_error(ErrorKind::kCorrupt, {"string", "integer"}, [&] { file.get_int("string"); });
    expect_error(ErrorKind::kCorrupt, {"string", "integer"}, [&] { file.get_int("string", 1); });
    expect_error(ErrorKind::kCorrupt, {"u64"}, [&] { file.get_int("u64"); });
    expect_error(ErrorKind::kCorrupt, {"u8", "string"}, [&] { file.get_string("u8", "x"); });
    expect_error(ErrorKind::kCorrupt, {"u8", "bool"}, [&] { file.get_bool("u8", true); });
    expect_error(ErrorKind::kCorrupt, {"bool", "number"}, [&] { file.get_float("bool"); });
  }
}

TEST(WriteGguf, ValuesAndTensorsComeBack) {
  const test::TempDir dir;
  for (const std::uint64_t alignment : {8u, 32u, 64u}) {
    const std::vector<std::pair<std::string, GgufValue>> metadata = {
        {"general.alignment", alignment},
        {"u", std::uint64_t{5}},
        {"large", std::uint64_t{1} << 40},
        {"i", std::int64_t{-5}},
        {"far", -(std::int64_t{1} << 40)},
        {"f", 0.5},
        {"b", true},
        {"s", std::string("text")},
        {"ints", std::vector<std::int64_t>{1, -2}},
        {"longs", std::vector<std::int64_t>{1, std::int64_t{1} << 40}},
        {"floats", std::vector<double>{0.25, -1}},
        {"strings", std::vector<std::string>{"a", ""}},
    };
    const auto bytes = [](std::size_t count, int value) {
      return std::vector<std::byte>(count, static_cast<std::byte>(value));
    };
    write_gguf(
        dir / "f", metadata,
        {{"x", {3, 5}, 0, bytes(60, 1)}, {"y", {1}, 0, bytes(4, 2)}, {"z", {2, 2, 2, 2}, 1, bytes(32, 3)}});
    const GgufFile file(dir / "f");
    EXPECT_EQ(file.alignment(), alignment);
    ASSERT_EQ(file.metadata().size(), metadata.size());
    for (const auto& [key, value] : metadata) EXPECT_TRUE(file.metadata().at(key) == value) << key;
    EXPECT_EQ(file.find("z")->dims, (std::vector<std::int64_t>{2, 2, 2, 2}));
    const auto sizes = [](const GgufTensor& tensor) -> std::uint64_t {
      return tensor.name == "x" ? 60 : tensor.name == "y" ? 4 : 32;
    };
    EXPECT_NO_THROW(file.check_extents(sizes));
    EXPECT_EQ(file.bytes(*file.find("y"), 4)[3], std::byte{2});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.bytes(*file.find("z"), 32).data()) % alignment, 0u);
    const std::uint64_t wrong = alignment + 60;
    expect_error(ErrorKind::kCorrupt, {"'y'", "expected"},
                 [&] { file.check_extents([&](const GgufTensor&) { return wrong; }); });
  }
}

TEST(WriteGguf, HoldsOneTensorAtATimeAndTellsProgress) {
  const test::TempDir dir;
  std::vector<std::string> events;
  const auto tensor = [&](std::string name, std::size_t size) {
    return GgufTensorToWrite(name, {static_cast<std::int64_t>(size / 4)}, 0, size, [&events, name, size] {
      events.push_back(name);
      return std::vector<std::byte>(size, std::byte{7});
    });
  };
  write_gguf(dir / "f", {}, {tensor("a", 4), tensor("b", 40)}, [&](std::int64_t done, std::int64_t total) {
    events.push_back(std::to_string(done) + "/" + std::to_string(total));
  });
  EXPECT_EQ(events, (std::vector<std::string>{"a", "4/44", "b", "44/44"}));
  GgufTensorToWrite wrong = tensor("a", 4);
  wrong.size = 8;
  expect_error(ErrorKind::kInvalidArgument, {"'a'", "4 bytes", "8"},
               [&] { write_gguf(dir / "g", {}, {wrong}); });
}

TEST(WriteGguf, SeesAFullDiskBeforeTheFirstByte) {
  const test::TempDir dir;
  const GgufTensorToWrite huge("a", {std::int64_t{1} << 56}, 0, std::uint64_t{1} << 58, [] {
    ADD_FAILURE() << "produced";
    return std::vector<std::byte>();
  });
  expect_error(ErrorKind::kIo, {"free"}, [&] { write_gguf(dir / "f", {}, {huge}); });
  EXPECT_FALSE(std::filesystem::exists(dir / "f"));
  const GgufTensorToWrite larger("a", {1}, 0, std::uint64_t{1} << 63,
                                 [] { return std::vector<std::byte>(); });
  expect_error(ErrorKind::kInvalidArgument, {"'a'"}, [&] { write_gguf(dir / "f", {}, {larger}); });
  expect_error(ErrorKind::kInvalidArgument, {"2^62"}, [&] {
    GgufTensorToWrite second = huge;
    second.size = std::uint64_t{1} << 62;
    second.name = "b";
    write_gguf(dir / "f", {}, {huge, second});
  });
}

TEST(WriteGguf, RefusesWhatReadersWouldRefuse) {
  const test::TempDir dir;
  const GgufTensorToWrite good{"a", {1}, 0, std::vector<std::byte>(4)};
  const auto refuse = [&](std::vector<std::pair<std::string, GgufValue>> metadata,
                          std::vector<GgufTensorToWrite> tensors) {
    expect_error(ErrorKind::kInvalidArgument, {"io.write_gguf"},
                 [&] { write_gguf(dir / "f", metadata, tensors); });
    EXPECT_FALSE(std::filesystem::exists(dir / "f"));
  };
  refuse({}, {good, good});
  refuse({{"k", true}, {"k", false}}, {});
  refuse({{"", true}}, {});
  refuse({{"general.alignment", std::uint64_t{24}}}, {});
  refuse({}, {{"", {1}, 0, std::vector<std::byte>(4)}});
  refuse({}, {{std::string(64, 'n'), {1}, 0, std::vector<std::byte>(4)}});
  refuse({}, {{"a", {}, 0, std::vector<std::byte>(4)}});
  refuse({}, {{"a", {1, 1, 1, 1, 1}, 0, std::vector<std::byte>(4)}});
  refuse({}, {{"a", {0}, 0, {}}});
}

}  // namespace
}  // namespace crumb::io
