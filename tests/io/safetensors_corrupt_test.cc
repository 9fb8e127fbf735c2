// Every damaged file gives an Error that names it: never a crash, never a tensor with other bytes than the
// header promises.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/bytes.h"
#include "io/safetensors.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::io {
namespace {

using test::expect_error;
using test::write_bytes;

std::string file_of(std::string_view header, std::string_view data, std::uint64_t length_offset = 0) {
  return test::Bytes().put<std::uint64_t>(header.size() + length_offset).raw(header).raw(data).text();
}

struct Damage {
  const char* what;
  std::string header, data;
  std::vector<std::string_view> named;
};

constexpr const char* kGood =
    R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}})";

TEST(SafetensorsFile, TheUndamagedTwinOfTheTableLoads) {
  const test::TempDir dir;
  write_bytes(dir / "f", file_of(kGood, std::string(12, 'x')));
  EXPECT_EQ(SafetensorsFile(dir / "f").tensors().size(), 2u);
}

std::string one(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return cat(R"({"tensor_x":{"dtype":)", dtype, R"(,"shape":)", shape, R"(,"data_offsets":)", offsets, "}}");
}

TEST(SafetensorsFile, RefusesEveryDamageOfTheTable) {
  const std::string eight(8, 'x'), twelve(12, 'x');
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const Damage table[] = {
      {"overlap",
       cat("{", a, R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})"),
       eight,
       {"'b'", "inside"}},
      {"same range twice",
       cat("{", a, R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
       eight,
       {"inside"}},
      {"hole",
       cat("{", a, R"(,"b":{"dtype":"U8","shape":[3],"data_offsets":[9,12]}})"),
       twelve,
       {"'b'", "hole"}},
      {"hole in front", one("\"F32\"", "[2]", "[4,12]"), twelve, {"tensor_x", "hole"}},
      {"past the end", one("\"F32\"", "[3]", "[0,12]"), eight, {"tensor_x", "cut short"}},
      {"trailing bytes", one("\"F32\"", "[2]", "[0,8]"), twelve, {"4 bytes follow"}},
      {"bytes without tensors", "{}", eight, {"8 bytes follow"}},
      {"size against shape", one("\"F32\"", "[3]", "[0,8]"), eight, {"tensor_x", "span 8", "needs 12"}},
      {"end before begin", one("\"F32\"", "[2]", "[8,0]"), eight, {"tensor_x", "negative"}},
      {"overflowing product",
       one("\"F32\"", "[4611686018427387904,4,4]", "[0,8]"),
       eight,
       {"tensor_x", "2^64"}},
      {"product that wraps to the right size",
       one("\"F32\"", "[2305843009213693954,8,1]", "[0,64]"),
       std::string(64, 'x'),
       {"tensor_x"}},
      {"overflow hidden by a zero",
       one("\"F32\"", "[9223372036854775807,9223372036854775807,0]", "[0,0]"),
       "",
       {"tensor_x"}},
      {"negative dim", one("\"F32\"", "[-2]", "[0,8]"), eight, {"tensor_x", "-2"}},
      {"dim as float", one("\"F32\"", "[2.0]", "[0,8]"), eight, {"tensor_x", "2.0"}},
      {"dim with exponent", one("\"F32\"", "[2e0]", "[0,8]"), eight, {"tensor_x"}},
      {"dim above 2^63", one("\"F32\"", "[9223372036854775808]", "[0,8]"), eight, {"tensor_x"}},
      {"dim above 2^64", one("\"F32\"", "[18446744073709551618]", "[0,8]"), eight, {"tensor_x"}},
      {"dim as string", one("\"F32\"", "[\"2\"]", "[0,8]"), eight, {"tensor_x"}},
      {"dim as bool", one("\"U8\"", "[true]", "[0,1]"), "x", {"tensor_x"}},
      {"offset above 2^63",
       one("\"F32\"", "[2]", "[18446744073709551608,18446744073709551615]"),
       eight,
       {"tensor_x"}},
      {"offset as float", one("\"F32\"", "[2]", "[0.0,8]"), eight, {"tensor_x", "data_offsets"}},
      {"three offsets", one("\"F32\"", "[2]", "[0,8,8]"), eight, {"tensor_x", "pair"}},
      {"offsets no array", one("\"F32\"", "[2]", "8"), eight, {"tensor_x"}},
      {"shape no array", one("\"F32\"", "2", "[0,8]"), eight, {"tensor_x", "shape"}},
      {"unknown dtype", one("\"F33\"", "[2]", "[0,8]"), eight, {"tensor_x", "F33"}},
      {"dtype in small letters", one("\"f32\"", "[2]", "[0,8]"), eight, {"tensor_x", "f32"}},
      {"dtype no string", one("32", "[2]", "[0,8]"), eight, {"tensor_x", "dtype"}},
      {"odd number of 4-bit elements", one("\"F4\"", "[3]", "[0,2]"), "xx", {"tensor_x", "12 bits"}},
      {"missing dtype", R"({"tensor_x":{"shape":[2],"data_offsets":[0,8]}})", eight, {"tensor_x", "dtype"}},
      {"missing shape", R"({"tensor_x":{"dtype":"F32","data_offsets":[0,8]}})", eight, {"tensor_x", "shape"}},
      {"missing offsets", R"({"tensor_x":{"dtype":"F32","shape":[2]}})", eight, {"tensor_x", "data_offsets"}},
      {"unknown key",
       R"({"tensor_x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})",
       eight,
       {"tensor_x", "more"}},
      {"tensor no object", R"({"tensor_x":[]})", "", {"tensor_x"}},
      {"name twice", cat("{", a, ",", a, "}"), eight, {"'a'", "twice"}},
      {"field twice",
       R"({"tensor_x":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}})",
       eight,
       {"'dtype'", "twice"}},
      {"metadata no object", R"({"__metadata__":1})", "", {"__metadata__"}},
      {"metadata value no string", R"({"__metadata__":{"format":1}})", "", {"__metadata__", "format"}},
      {"not JSON", "{\"a\":", "", {"header"}},
      {"no object", "[1]", "", {"header"}},
      {"blank before", " {}", "", {"header"}},
      {"garbage after", "{} x", "", {"header"}},
      {"newline after", "{}\n", "", {"header"}},
      {"second object after", "{}{}", "", {"header"}},
      {"zero byte after", std::string("{}\0}", 4), "", {"header"}},
      {"invalid UTF-8", "{\"\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", "", {"header"}},
      {"NaN", one("\"F32\"", "[NaN]", "[0,8]"), eight, {"header"}},
      {"deep", "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", "", {"deep"}},
      {"long name",
       "{\"" + std::string(5000, 'n') + "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
       "",
       {"5000"}},
      {"empty header", "", "", {"header"}},
      {"blank header", "        ", "", {"header"}},
  };
  const test::TempDir dir;
  for (const Damage& damage : table) {
    SCOPED_TRACE(damage.what);
    write_bytes(dir / "damaged.safetensors", file_of(damage.header, damage.data));
    expect_error(ErrorKind::kCorrupt, {"damaged.safetensors"},
                 [&] { SafetensorsFile(dir / "damaged.safetensors"); });
    try {
      SafetensorsFile(dir / "damaged.safetensors");
    } catch (const Error& error) {
      for (const std::string_view part : damage.named)
        EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
    }
  }
}

TEST(SafetensorsFile, RefusesHeaderLengthsThatCannotBe) {
  const test::TempDir dir;
  const std::string header = kGood, data(12, 'x');
  for (const std::uint64_t length : {std::uint64_t{13}, std::uint64_t{1} << 20, std::uint64_t{100'000'001},
                                     ~std::uint64_t{0}, ~std::uint64_t{0} - 7, std::uint64_t{1} << 63}) {
    write_bytes(dir / "f", file_of(header, data, length));
    expect_error(ErrorKind::kCorrupt, {"f"}, [&] { SafetensorsFile(dir / "f"); });
  }
}

TEST(SafetensorsFile, OrderOfHeaderEntriesDoesNotMatter) {
  const test::TempDir dir;
  write_bytes(
      dir / "f",
      file_of(
          R"({"z":{"data_offsets":[0,4],"shape":[4],"dtype":"U8"},"a":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
          "123456"));
  const SafetensorsFile file(dir / "f");
  EXPECT_EQ(file.tensors()[0].name, "z");
  EXPECT_EQ(file.read_u8("a"), (std::vector<std::uint8_t>{'5', '6'}));
}

TEST(SafetensorsFile, ListsDtypesItDoesNotRead) {
  const test::TempDir dir;
  write_bytes(
      dir / "f",
      file_of(
          R"({"q":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},"h":{"dtype":"F4","shape":[4],"data_offsets":[4,6]},
                                   "a":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}})",
          "12345678"));
  const SafetensorsFile file(dir / "f");
  EXPECT_EQ(file.skipped(), (std::vector<std::string>{"q", "h"}));
  EXPECT_EQ(file.tensors().size(), 1u);
  expect_error(ErrorKind::kUnsupported, {"'q'", "dtype"}, [&] { file.at("q"); });
}

TEST(SafetensorsFile, RefusesEveryTruncation) {
  const test::TempDir dir;
  const std::string whole = file_of(kGood, std::string(12, 'x'));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(dir / "f", whole.substr(0, size));
    expect_error(ErrorKind::kCorrupt, {"f"}, [&] { SafetensorsFile(dir / "f"); });
  }
  write_bytes(dir / "f", whole + "y");
  expect_error(ErrorKind::kCorrupt, {"1 bytes follow"}, [&] { SafetensorsFile(dir / "f"); });
}

// A flipped bit gives an Error or a file that keeps every promise; a flip of the length or of the layout may
// not pass.
TEST(SafetensorsFile, NoBitFlipBreaksAPromise) {
  const test::TempDir dir;
  const std::string whole = file_of(kGood, std::string(12, 'x'));
  const std::size_t data_begin = whole.size() - 12;
  int refused = 0, read = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      write_bytes(dir / "f", damaged);
      try {
        const SafetensorsFile file(dir / "f");
        std::size_t total = 0;
        for (const TensorInfo& info : file.tensors()) {
          std::int64_t elements = 1;
          for (const std::int64_t dim : info.shape) elements *= dim;
          EXPECT_EQ(elements, info.elements());
          EXPECT_EQ(file.read_f32(info.name).size(), static_cast<std::size_t>(elements));
          total += info.size;
        }
        if (file.skipped().empty()) {
          EXPECT_EQ(total, 12u);
        }
        EXPECT_GE(i, 8u) << "the header length may not change";
        ++read;
      } catch (const Error& error) {
        EXPECT_EQ(to_string(error.kind()), to_string(ErrorKind::kCorrupt)) << error.what();
        EXPECT_LT(i, data_begin) << "tensor bytes may be anything";
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 500);
  EXPECT_GE(read, 96);  // at least all flips in the data
}

}  // namespace
}  // namespace crumb::io
