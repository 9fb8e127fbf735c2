// What the fuzz targets share: bytes as a file, and the rule that only crumb::Error may leave a reader.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>

#include "base/error.h"

namespace crumb::fuzz {

using Bytes = std::span<const std::uint8_t>;

inline void write_all(int descriptor, Bytes bytes) {
  if (::write(descriptor, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
}

/// A file that exists in memory only; path() opens it as any other.
class MemoryFile {
 public:
  explicit MemoryFile(Bytes bytes) : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (descriptor_ < 0) std::abort();
    write_all(descriptor_, bytes);
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// A folder of this process in the memory file system; files are overwritten from input to input.
class Folder {
 public:
  Folder() : path_("/dev/shm/crumb-fuzz-" + std::to_string(::getpid())) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  void put(const char* name, Bytes bytes) const {
    const int descriptor = ::open((path_ / name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0) std::abort();
    write_all(descriptor, bytes);
    ::close(descriptor);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Two parts of an input: a length of 4 bytes, little-endian, then the first part; what is left is the
/// second.
struct Halves {
  Bytes first, second;
};
inline Halves halves(Bytes input) {
  if (input.size() < 4) return {input, {}};
  std::size_t size = 0;
  for (int i = 3; i >= 0; --i) size = size << 8 | input[static_cast<std::size_t>(i)];
  input = input.subspan(4);
  size = size < input.size() ? size : input.size();
  return {input.first(size), input.subspan(size)};
}

/// Runs `read`; errors that the program reports to its user are fine, everything else is a finding.
template <class Read>
int expect_no_crash(const Read& read) {
  try {
    read();
  } catch (const Error&) {
  }
  return 0;
}

}  // namespace crumb::fuzz
