// Every damaged file gives an Error that names it.
#include <gtest/gtest.h>

#include "io/bytes.h"
#include "io/gguf.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::io {
namespace {

using test::Bytes;
using test::expect_error;
using test::write_bytes;

struct Tensor {
  std::string name = "a";
  std::vector<std::int64_t> dims = {4};
  std::uint64_t offset = 0;
  std::uint32_t dim_count = 1;
};

std::string text_of(std::string_view text) {
  return Bytes().put<std::uint64_t>(text.size()).raw(text).text();
}
std::string key_value(std::string_view key, std::uint32_t type, std::string_view value) {
  return text_of(key) + Bytes().put(type).raw(value).text();
}
template <class T>
std::string number(T value) {
  return Bytes().put(value).text();
}

/// A file of F32 tensors of 16 bytes each, whatever the table says.
std::string file_of(const std::vector<std::string>& values, const std::vector<Tensor>& tensors,
                    std::size_t data_bytes, std::uint32_t version = 3, std::size_t alignment = 32) {
  Bytes b;
  b.raw("GGUF").put(version).put<std::uint64_t>(tensors.size()).put<std::uint64_t>(values.size());
  for (const std::string& value : values) b.raw(value);
  for (const Tensor& tensor : tensors) {
    b.raw(text_of(tensor.name)).put(tensor.dim_count);
    for (const std::int64_t dim : tensor.dims) b.put(dim);
    b.put<std::uint32_t>(0).put(tensor.offset);
  }
  return b.pad(alignment).raw(std::string(data_bytes, 'd')).text();
}

void open(const std::filesystem::path& path) {
  const GgufFile file(path);
  file.check_extents([](const GgufTensor& tensor) {
    std::uint64_t elements = 1;
    for (const std::int64_t dim : tensor.dims) elements *= static_cast<std::uint64_t>(dim);
    return elements * 4;
  });
}

struct Damage {
  const char* what;
  std::string bytes;
  std::string_view named = "";
  ErrorKind kind = ErrorKind::kCorrupt;
};

TEST(GgufFile, TheUndamagedTwinsOfTheTableLoad) {
  const test::TempDir dir;
  const std::string alignment = key_value("general.alignment", 4, number(std::uint32_t{64}));
  for (const std::string& bytes :
       {file_of({}, {}, 0), file_of({}, {{}}, 16), file_of({}, {{}}, 32),
        file_of({}, {{}, {"b", {4}, 32}}, 48), file_of({alignment}, {{}, {"b", {4}, 64}}, 128, 3, 64),
        file_of({}, {{}}, 16, 2)}) {
    write_bytes(dir / "f", bytes);
    EXPECT_NO_THROW(open(dir / "f"));
  }
}

TEST(GgufFile, RefusesEveryDamageOfTheTable) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  const std::string flag = key_value("k", 7, number(std::uint8_t{1}));
  const auto array = [](std::uint32_t type, std::uint64_t count, std::string_view elements) {
    return key_value("k", 9, Bytes().put(type).put(count).raw(elements).text());
  };
  const auto counts = [](std::uint64_t tensors, std::uint64_t values) {
    return Bytes()
        .raw("GGUF")
        .put<std::uint32_t>(3)
        .put(tensors)
        .put(values)
        .raw(std::string(200, '\0'))
        .text();
  };
  const Damage table[] = {
      {"another magic", "GGML" + file_of({}, {}, 0).substr(4), "GGUF"},
      {"version 1", file_of({}, {}, 0, 1), "version 1", ErrorKind::kUnsupported},
      {"version 4", file_of({}, {}, 0, 4), "version 4", ErrorKind::kUnsupported},
      {"big-endian", file_of({}, {}, 0, 0x03000000u), "big-endian", ErrorKind::kUnsupported},
      {"huge tensor count", counts(~std::uint64_t{0}, 0), "tensor count"},
      {"negative tensor count", counts(std::uint64_t{1} << 63, 0), "tensor count"},
      {"huge metadata count", counts(0, std::uint64_t{1} << 60), "metadata count"},
      {"tensor count one too many", counts(7, 0), "tensor count"},
      {"key twice", file_of({flag, flag}, {}, 0), "twice"},
      {"empty key", file_of({key_value("", 7, number(std::uint8_t{1}))}, {}, 0), "key 0"},
      {"long key", file_of({key_value(std::string(70000, 'k'), 7, number(std::uint8_t{1}))}, {}, 0), "70000"},
      {"key past the end",
       file_of({Bytes().put<std::uint64_t>(1000).raw(std::string(20, 'k')).text()}, {}, 0), "1000"},
      {"key of 2^64 - 1", file_of({Bytes().put(~std::uint64_t{0}).raw(std::string(20, 'k')).text()}, {}, 0),
       "string of"},
      {"unknown value type", file_of({key_value("k", 13, number(std::uint64_t{1}))}, {}, 0), "13"},
      {"bool 2", file_of({key_value("k", 7, number(std::uint8_t{2}))}, {}, 0), "bool"},
      {"array of arrays", file_of({array(9, 1, std::string(20, '\0'))}, {}, 0), "array of arrays"},
      {"unknown element type", file_of({array(99, 1, std::string(20, '\0'))}, {}, 0), "99"},
      {"huge array", file_of({array(0, std::uint64_t{1} << 40, "x")}, {}, 0), "1099511627776"},
      {"array of 2^64 - 1 strings", file_of({array(8, ~std::uint64_t{0}, "x")}, {}, 0), "elements"},
      {"array longer than the file", file_of({array(6, 100, std::string(20, '\0'))}, {}, 0), "100"},
      {"u64 element above 2^63", file_of({array(10, 1, number(~std::uint64_t{0}))}, {}, 0), "2^63"},
      {"alignment 0", file_of({key_value("general.alignment", 4, number(std::uint32_t{0}))}, {}, 0),
       "alignment"},
      {"alignment 24", file_of({key_value("general.alignment", 4, number(std::uint32_t{24}))}, {}, 0),
       "alignment"},
      {"alignment as i32", file_of({key_value("general.alignment", 5, number(std::int32_t{32}))}, {}, 0),
       "alignment"},
      {"tensor twice", file_of({}, {{}, {"a", {4}, 32}}, 64), "twice"},
      {"tensor without name", file_of({}, {{""}}, 32), "name"},
      {"long tensor name", file_of({}, {{std::string(64, 'n')}}, 32), "64"},
      {"no dims", file_of({}, {{"a", {}, 0, 0}}, 32), "0 dims"},
      {"five dims", file_of({}, {{"a", {1, 1, 1, 1, 1}, 0, 5}}, 32), "5 dims"},
      {"2^32 - 1 dims", file_of({}, {{"a", {1}, 0, ~0u}}, 32), "4294967295 dims"},
      {"negative dim", file_of({}, {{"a", {-4}}}, 32), "-4"},
      {"dim 0", file_of({}, {{"a", {0}}}, 32), "[0]"},
      {"overflowing product", file_of({}, {{"a", {kHuge, 4}, 0, 2}}, 32), "'a'"},
      {"product that wraps to 4", file_of({}, {{"a", {kHuge + 1, 4}, 0, 2}}, 32), "'a'"},
      {"size past the end", file_of({}, {{"a", {100}}}, 32), "400 bytes"},
      {"first offset not 0", file_of({}, {{"a", {4}, 32}}, 64), "expected 0"},
      {"offset not aligned", file_of({}, {{}, {"b", {4}, 16}}, 64), "'b'"},
      {"gap", file_of({}, {{}, {"b", {4}, 64}}, 96), "expected 32"},
      {"overlap", file_of({}, {{"a", {16}}, {"b", {4}, 32}}, 96), "expected 64"},
      {"disorder", file_of({}, {{"a", {4}, 32}, {"b", {4}, 0}}, 64), "'a'"},
      {"same offset", file_of({}, {{}, {"b", {4}, 0}}, 64), "'b'"},
      {"offset past the end", file_of({}, {{}, {"b", {4}, 1u << 30}}, 64), "past the end"},
      {"offset of 2^64 - 32", file_of({}, {{}, {"b", {4}, ~std::uint64_t{31}}}, 64), "past the end"},
      {"last tensor cut", file_of({}, {{}, {"b", {4}, 32}}, 47), "'b'"},
      {"trailing bytes", file_of({}, {{}}, 33), "1 bytes follow"},
      {"tensors behind a count of 0", file_of({}, {}, 100), "100 bytes follow"},
      {"padding that is not zero",
       file_of({flag, key_value("kk", 7, number(std::uint8_t{1}))}, {{}}, 32)
           .replace(24 + 14 + 15 + 37, 1, "p"),
       "padding"},
      {"no data", file_of({}, {{}}, 0), "past the end"},
  };
  const test::TempDir dir;
  for (const Damage& damage : table) {
    SCOPED_TRACE(damage.what);
    write_bytes(dir / "damaged.gguf", damage.bytes);
    expect_error(damage.kind, {"damaged.gguf", damage.named}, [&] { open(dir / "damaged.gguf"); });
  }
}

std::string sample() {
  return file_of(
      {key_value("general.architecture", 8, text_of("llama")), key_value("n", 4, number(std::uint32_t{7})),
       key_value(
           "list", 9,
           Bytes().put<std::uint32_t>(8).put<std::uint64_t>(2).raw(text_of("x")).raw(text_of("yz")).text())},
      {{"a", {4}}, {"b", {2, 2}, 32, 2}}, 48);
}

TEST(GgufFile, RefusesEveryTruncation) {
  const test::TempDir dir;
  const std::string whole = sample();
  write_bytes(dir / "f", whole);
  EXPECT_NO_THROW(open(dir / "f"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(dir / "f", whole.substr(0, size));
    expect_error(ErrorKind::kCorrupt, {"f"}, [&] { open(dir / "f"); });
  }
}

TEST(GgufFile, NoBitFlipCrashesOrReadsPastTheEnd) {
  const test::TempDir dir;
  const std::string whole = sample();
  int refused = 0, read = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      write_bytes(dir / "f", damaged);
      try {
        open(dir / "f");
        const GgufFile file(dir / "f");
        for (const GgufTensor& tensor : file.tensors()) EXPECT_EQ(file.bytes(tensor, 16).size(), 16u);
        EXPECT_GE(i, 4u) << "the magic may not change";
        EXPECT_EQ(file.tensors().size(), 2u);
        ++read;
      } catch (const Error& error) {
        EXPECT_TRUE(error.kind() == ErrorKind::kCorrupt || error.kind() == ErrorKind::kUnsupported)
            << error.what();
        EXPECT_LT(i, whole.size() - 48) << "tensor bytes may be anything";
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 800);
  EXPECT_GE(read, 48 * 8);
}

}  // namespace
}  // namespace crumb::io
