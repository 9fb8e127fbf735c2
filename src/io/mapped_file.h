// A file's bytes as memory.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>

namespace crumb::io {

/// A file mapped read-only; a small one is read instead, which is faster. Throws NotFound when it is not
/// there, Io when it cannot be opened, mapped or read. bytes() starts at a multiple of 64. An empty file has
/// no bytes. The file may be deleted or replaced by rename while open; truncating a mapped one in place is a
/// fault that the reader cannot see (SIGBUS).
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::byte[], Free> held_;  // of a small file
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace crumb::io
