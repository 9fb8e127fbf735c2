// Large memory straight from the system.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

namespace crumb::runtime {

/// Zeroed pages, huge ones where the system gives them; they count from the first write on.
class Memory {
 public:
  Memory() = default;
  /// Throws OutOfMemory: what for, how much, how much is there.
  Memory(std::size_t size, std::string_view purpose);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace crumb::runtime
