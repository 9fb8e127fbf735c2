// How fast this machine reads memory: what a kernel that streams weights can reach at best.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <span>

namespace crumb::kernels {

/// Memory for measurements: aligned to 2 MB, huge pages asked for, every page touched. Throws OutOfMemory.
class TouchedMemory {
 public:
  explicit TouchedMemory(std::size_t bytes);
  std::span<std::byte> span() const { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* p) const noexcept;
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte[], Free> memory_;
};

/// Reads everything once, on this thread, with plain wide loads. The result depends on every byte, so that
/// nothing can be left out.
std::uint64_t read_through(std::span<const std::byte> memory) noexcept;

/// Runs body(0) … body(threads - 1) at the same time and returns the most processor time that one of them
/// took, in seconds. Processor time, because on a machine shared with other programs it is what repeats; a
/// thread that waits for memory spends it.
double seconds_of(int threads, const std::function<void(int)>& body);

/// GB/s (1e9 bytes) of `threads` threads reading their share of `memory` once.
double read_bandwidth_gbps(std::span<const std::byte> memory, int threads);

}  // namespace crumb::kernels
