#include "runtime/memory.h"

#include <sys/mman.h>

#include <utility>

#include "base/error.h"
#include "base/memory_info.h"
#include "base/str.h"

namespace crumb::runtime {

Memory::Memory(std::size_t size, std::string_view purpose) : size_(size) {
  if (size == 0) return;
  const std::int64_t available = available_bytes();
  const bool fits = size <= static_cast<std::size_t>(available);
  void* at =
      fits ? ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
           : MAP_FAILED;
  if (at == MAP_FAILED) {
    fail(ErrorKind::kOutOfMemory, "runtime.memory", purpose, ": needs ",
         human_bytes(static_cast<double>(size)), "; ", human_bytes(static_cast<double>(available)),
         " are available; use a shorter context, fewer sequences or a smaller cache format");
  }
  data_ = static_cast<std::byte*>(at);
  ::madvise(at, size, MADV_HUGEPAGE);  // a wish
}

Memory::~Memory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace crumb::runtime
