// A file's bytes as memory.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>

namespace crumb::io {

/// A file mapped read-only. Throws NotFound when it is not there, Io when it cannot be opened or mapped. An empty file maps to no bytes.
/// The file may be deleted or replaced by rename while mapped; truncating it in place is a fault that the reader cannot see (SIGBUS).
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
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace crumb::io
