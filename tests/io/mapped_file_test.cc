#include "io/mapped_file.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <fstream>
#include <string_view>
#include <utility>

#include "io/bytes.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::io {
namespace {

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, ShowsTheBytesAndMoves) {
  const test::TempDir dir;
  test::write_bytes(dir / "f", "hello");
  MappedFile file(dir / "f");
  EXPECT_EQ(text_of(file), "hello");
  MappedFile other(std::move(file));
  EXPECT_EQ(text_of(other), "hello");
  test::write_bytes(dir / "g", "else");
  MappedFile third(dir / "g");
  third = std::move(other);
  EXPECT_EQ(text_of(third), "hello");
  EXPECT_EQ(third.path(), dir / "f");
}

TEST(MappedFile, AnEmptyFileHasNoBytes) {
  const test::TempDir dir;
  test::write_bytes(dir / "f", "");
  const MappedFile file(dir / "f");
  EXPECT_TRUE(file.bytes().empty());
}

TEST(MappedFile, ReadsSmallFilesAndMapsLargeOnes) {
  const test::TempDir dir;
  for (const std::size_t size : {std::size_t{1} << 18, (std::size_t{1} << 18) + 1}) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 7);
    std::ofstream(dir / "f", std::ios::binary) << bytes;
    MappedFile file(dir / "f");
    const MappedFile moved = std::move(file);
    EXPECT_EQ(text_of(moved), bytes) << size;
  }
}

TEST(MappedFile, OutlivesDeletionAndReplacement) {
  const test::TempDir dir;
  test::write_bytes(dir / "f", "old");
  const MappedFile file(dir / "f");
  test::write_bytes(dir / "g", "new");
  std::filesystem::rename(dir / "g", dir / "f");
  EXPECT_EQ(text_of(file), "old");
  std::filesystem::remove(dir / "f");
  EXPECT_EQ(text_of(file), "old");
}

TEST(MappedFile, NamesWhatCannotBeMapped) {
  const test::TempDir dir;
  test::expect_error(ErrorKind::kNotFound, {"absent"}, [&] { MappedFile(dir / "absent"); });
  test::expect_error(ErrorKind::kIo, {"folder"}, [&] { MappedFile(dir.path()); });
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  test::expect_error(ErrorKind::kIo, {"pipe", "regular file"}, [&] { MappedFile(dir / "pipe"); });
}

}  // namespace
}  // namespace crumb::io
