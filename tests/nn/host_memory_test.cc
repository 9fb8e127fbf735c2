// Blocks of large tensors: reused, bounded, and safe across a change of the allocator.
#include "nn/host_memory.h"

#include <gtest/gtest.h>

#include "nn/torch.h"

namespace crumb::nn {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

at::Tensor bytes(std::int64_t count) {
  return at::empty({count}, at::kByte);
}

class HostMemory : public ::testing::Test {
 protected:
  void SetUp() override { use_host_memory(true); }
  void TearDown() override { use_host_memory(false); }
};

TEST_F(HostMemory, ABlockComesBackForATensorOfItsSize) {
  at::Tensor x = bytes(5 * kMiB);
  void* const first = x.mutable_data_ptr();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % (2 * kMiB), 0);
  EXPECT_EQ(host_memory_use().in_use, 6 * kMiB);  // whole huge pages
  x = at::Tensor();
  EXPECT_EQ(host_memory_use().in_use, 0);
  EXPECT_EQ(bytes(6 * kMiB).mutable_data_ptr(), first);
}

TEST_F(HostMemory, SmallTensorsStayWithMalloc) {
  const std::int64_t before = host_memory_use().in_use;
  const at::Tensor x = bytes(kMiB - 1);
  EXPECT_EQ(host_memory_use().in_use, before);
}

TEST_F(HostMemory, WhatIsKeptDoesNotRaiseThePeak) {
  { const at::Tensor large = bytes(200 * kMiB); }
  const std::int64_t peak = host_memory_use().peak_in_use;
  for (std::int64_t size = 10; size < 200; size += 17) {  // sizes that never fit each other
    at::Tensor x = bytes(size * kMiB);
    x.zero_();
    const HostMemoryUse use = host_memory_use();
    EXPECT_LE(use.in_use + use.kept, peak + 64 * kMiB) << size;
  }
  EXPECT_EQ(host_memory_use().peak_in_use, peak);
}

TEST_F(HostMemory, ATensorOutlivesTheSwitch) {
  at::Tensor x = bytes(3 * kMiB);
  x.fill_(7);
  use_host_memory(false);
  const at::Tensor y = bytes(3 * kMiB);
  use_host_memory(true);
  EXPECT_EQ(x.sum().item<std::int64_t>(), 7 * 3 * kMiB);
  x = at::Tensor();
}

TEST_F(HostMemory, WhatCannotBeGivenIsAnError) {
  EXPECT_ANY_THROW(bytes(std::int64_t{1} << 46));
}

}  // namespace
}  // namespace crumb::nn
