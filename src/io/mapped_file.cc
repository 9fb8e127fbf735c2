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

constexpr std::size_t kReadWhole = 1 << 18;
constexpr std::size_t kAlignment = 64;  // what readers of weights ask for

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
  if (size_ <= kReadWhole) {
    void* memory = nullptr;
    if (::posix_memalign(&memory, kAlignment, size_) != 0)
      fail(ErrorKind::kOutOfMemory, kWhere, path.string(), ": no memory for its ", size_, " bytes");
    held_.reset(static_cast<std::byte*>(memory));
    std::size_t done = 0;
    while (done < size_) {
      const ssize_t got = ::pread(file.value, held_.get() + done, size_ - done, static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        const int reason = errno;
        fail(ErrorKind::kIo, kWhere, path.string(), ": byte ", done, " of ", size_,
             " cannot be read: ", got == 0 ? "the file became shorter" : std::strerror(reason));
      }
      done += static_cast<std::size_t>(got);
    }
    data_ = held_.get();
    return;
  }
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
  if (data_ != nullptr && held_ == nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      held_(std::move(other.held_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(held_, other.held_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace crumb::io
