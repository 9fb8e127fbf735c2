// Sizes that the door and the variants agree on. Internal linkage.
#pragma once
#include "kernels/kv_store/kv_layout.h"

namespace crumb::kernels {
namespace {

constexpr std::int64_t kKeyTile = kKvCapacityStep;  // keys that meet at once: four vectors of AVX-512
constexpr std::int64_t kRowTile = 24;    // rows (token, head) that share the keys: 64 x 24 scores are 6 KiB
constexpr std::int64_t kTokenTile = 16;  // tokens of one item

/// Scores [kRowTile, kKeyTile], outputs [kRowTile, S], and four numbers for each row.
inline std::int64_t workspace_floats(std::int64_t head_dim) {
  return kRowTile * (kKeyTile + value_stride(head_dim) + 4);
}

}  // namespace
}  // namespace crumb::kernels
