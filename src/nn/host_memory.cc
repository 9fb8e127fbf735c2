#include "nn/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include "base/error.h"
#include "base/str.h"

namespace crumb::nn {
namespace {

constexpr std::size_t kLarge = 1 << 20, kPage = 64 << 10, kHugePage = 2 << 20;
// Kept beyond the peak, so that the sizes of a step, which never fit each other exactly, come round without asking
// the system.
constexpr std::size_t kSlack = 64 << 20;

struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;
};

std::size_t rounded(std::size_t bytes) {
  const std::size_t unit = bytes >= 2 * kHugePage ? kHugePage : kPage;
  return (bytes + unit - 1) / unit * unit;
}

// Aligned to huge pages where it is large enough to have them.
Block map(std::size_t bytes) {
  const std::size_t slack = bytes >= kHugePage ? kHugePage : 0;
  void* const mapped =
      ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    fail(ErrorKind::kOutOfMemory, "nn.host_memory", human_bytes(static_cast<double>(bytes)), ": ",
         std::strerror(errno), "; want memory for one tensor; take a smaller batch, a shorter context or a machine with more");
  }
  auto* begin = static_cast<char*>(mapped);
  if (slack > 0) {
    const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
    if (before > 0) ::munmap(begin, before);
    if (slack > before) ::munmap(begin + before + bytes, slack - before);
    begin += before;
    ::madvise(begin, bytes, MADV_HUGEPAGE);  // a wish; small pages work too
  }
  return {begin, bytes};
}

class HostAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes < kLarge) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    auto* const block = new Block(take(rounded(bytes)));
    return {block->data, block, [](void* context) { instance().give(static_cast<Block*>(context)); },
            c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  HostMemoryUse use() {
    const std::lock_guard lock(mutex_);
    return {static_cast<std::int64_t>(in_use_), static_cast<std::int64_t>(kept_bytes_),
            static_cast<std::int64_t>(peak_)};
  }
  static HostAllocator& instance() {
    static auto* const allocator = new HostAllocator;  // outlives the last tensor
    return *allocator;
  }

 private:
  Block take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    auto best = kept_.end();
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      if (it->bytes >= bytes && it->bytes <= bytes + bytes / 8 &&
          (best == kept_.end() || it->bytes < best->bytes))
        best = it;
    }
    Block block;
    if (best != kept_.end()) {
      block = *best;
      kept_bytes_ -= block.bytes;
      kept_.erase(best);
    } else {
      while (!kept_.empty() && in_use_ + kept_bytes_ + bytes > peak_ + kSlack) {  // the one unused for longest goes
        ::munmap(kept_.front().data, kept_.front().bytes);
        kept_bytes_ -= kept_.front().bytes;
        kept_.erase(kept_.begin());
      }
      block = map(bytes);
    }
    in_use_ += block.bytes;
    peak_ = std::max(peak_, in_use_);
    return block;
  }
  void give(Block* block) {
    const std::lock_guard lock(mutex_);
    in_use_ -= block->bytes;
    kept_bytes_ += block->bytes;
    kept_.push_back(*block);
    delete block;
  }

  std::mutex mutex_;
  std::vector<Block> kept_;  // in the order they came back; a few dozen
  std::size_t in_use_ = 0, kept_bytes_ = 0, peak_ = 0;
};

}  // namespace

void use_host_memory(bool on) {
  constexpr std::uint8_t kPriority = 1;  // above the library's own registration
  c10::SetAllocator(c10::DeviceType::CPU,
                    on ? static_cast<c10::Allocator*>(&HostAllocator::instance()) : c10::GetDefaultCPUAllocator(),
                    kPriority);
}

HostMemoryUse host_memory_use() {
  return HostAllocator::instance().use();
}

}  // namespace crumb::nn
