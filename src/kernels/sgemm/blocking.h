// Sizes that the product's loops and its workspace share.
#pragma once
#include <cstdint>

namespace crumb::kernels {

// A panel of B, kBlockK x 32 floats, stays in the first-level cache while rows of A pass it; a whole block of
// B, kBlockK x kBlockN floats = 384 KiB, in the second. A block of A is packed only when it comes transposed.
inline constexpr std::int64_t kBlockK = 256, kBlockN = 384, kBlockM = 144;
inline constexpr std::int64_t kSgemmWorkspace = kBlockK * kBlockN + kBlockK * kBlockM;

}  // namespace crumb::kernels
