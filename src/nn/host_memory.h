// Memory of large CPU tensors: huge pages, reused.
#pragma once
#include <cstdint>

namespace crumb::nn {

/// Tensors made from now on take blocks of at least 1 MiB from here instead of malloc, which gives large blocks
/// back to the system at once and pays a page fault for every 4 KiB when it asks again: 7 % of a training step at
/// hidden size 2048. Blocks lie in huge pages where the system grants them, and are kept for the next tensor of
/// about that size; what is mapped never exceeds the largest amount that was in use at one time by more than 64 MiB. Tensors made before
/// stay valid, and `on` = false goes back to malloc. Call it while no other thread makes tensors.
void use_host_memory(bool on);

struct HostMemoryUse {
  std::int64_t in_use = 0, kept = 0, peak_in_use = 0;  // bytes
};
HostMemoryUse host_memory_use();

}  // namespace crumb::nn
