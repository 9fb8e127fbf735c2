#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace crumb::io {
namespace {

// Closes at the end of the scope: a mapping outlives its descriptor.
struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  constexpr std::string_view kWhere = "io.mapped_file";
  const Descriptor file{
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};  // a pipe must not block here
  if (file.value < 0) {
    const int reason = errno;
    const bool absent = reason == ENOENT || reason == ENOTDIR;
    fail(absent ? ErrorKind::kNotFound : ErrorKind::kIo, kWhere, path.string(),
         ": cannot be opened: ", std::strerror(reason), absent ? "; check the path" : "");
  }
  struct stat status = {};
  if (::fstat(file.value, &status) != 0) {
    fail(ErrorKind::kIo, kWhere, path.string(), ": its size cannot be read: ", std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    fail(ErrorKind::kIo, kWhere, path.string(),
         S_ISDIR(status.st_mode) ? ": is a folder" : ": is not a regular file",
         "; expected a file that can be mapped");
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;  // mmap refuses length 0
  void* memory = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.value, 0);
  if (memory == MAP_FAILED) {
    const int reason = errno;
    size_ = 0;
    fail(ErrorKind::kIo, kWhere, path.string(), ": ", status.st_size,
         " bytes cannot be mapped: ", std::strerror(reason));
  }
  data_ = static_cast<const std::byte*>(memory);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace crumb::io
