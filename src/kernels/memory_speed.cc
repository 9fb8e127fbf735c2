#include "kernels/memory_speed.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>
#include <vector>

#include <sys/mman.h>

#include "base/error.h"

namespace crumb::kernels {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::byte* allocate(std::size_t bytes) {
  void* const p = std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
  if (p == nullptr)
    fail(ErrorKind::kOutOfMemory, "kernels.memory_speed", bytes, " bytes for a measurement: refused");
  madvise(p, bytes, MADV_HUGEPAGE);  // a wish
  std::memset(p, 1, bytes);
  return static_cast<std::byte*>(p);
}

}  // namespace

TouchedMemory::TouchedMemory(std::size_t bytes) : bytes_(bytes), memory_(allocate(bytes)) {}
void TouchedMemory::Free::operator()(std::byte* p) const noexcept {
  std::free(p);
}

std::uint64_t read_through(std::span<const std::byte> memory) noexcept {
  std::uint64_t sums[8] = {};
  const std::byte* p = memory.data();
  const std::byte* const end = p + memory.size() / 64 * 64;
  for (; p != end; p += 64) {
    std::uint64_t line[8];
    std::memcpy(line, p, sizeof(line));
    for (int i = 0; i < 8; ++i) sums[i] += line[i];
  }
  std::uint64_t total = 0;
  for (const std::uint64_t sum : sums) total += sum;
  for (std::size_t i = memory.size() / 64 * 64; i < memory.size(); ++i)
    total += std::to_integer<std::uint64_t>(memory[i]);
  return total;
}

double seconds_of(int threads, const std::function<void(int)>& body) {
  std::vector<double> seconds(static_cast<std::size_t>(threads));
  std::barrier start(threads);
  const auto work = [&](int thread) {
    start.arrive_and_wait();
    const double begin = thread_seconds();
    body(thread);
    seconds[static_cast<std::size_t>(thread)] = thread_seconds() - begin;
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
  work(0);
  for (std::thread& other : others) other.join();
  return *std::max_element(seconds.begin(), seconds.end());
}

double read_bandwidth_gbps(std::span<const std::byte> memory, int threads) {
  const std::size_t share = memory.size() / static_cast<std::size_t>(threads) / 64 * 64;
  std::atomic<std::uint64_t> sink{0};
  const double seconds = seconds_of(threads, [&](int thread) {
    sink += read_through(memory.subspan(share * static_cast<std::size_t>(thread), share));
  });
  return static_cast<double>(share) * threads / seconds / 1e9;
}

}  // namespace crumb::kernels
