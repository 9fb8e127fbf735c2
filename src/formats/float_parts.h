// Float tensors a part at a time: an embedding of 128k rows is never whole in memory as f32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"

namespace crumb::formats {

/// Calls `part` with the tensor's values in order, some MiB of whole rows at a time; `first` is the index of
/// values[0]. Throws as Checkpoint::read_f32.
void for_each_float_part(const Checkpoint& source, std::string_view name,
                         const std::function<void(std::int64_t first, std::span<const float> values)>& part);

/// The tensor as bytes of a float dtype, rounded half to even; memory: the bytes and one part.
std::vector<std::byte> float_bytes(const Checkpoint& source, std::string_view name, DType dtype);

/// How many values are no binary16 numbers.
std::int64_t count_beyond_f16(const Checkpoint& source, std::string_view name);

}  // namespace crumb::formats
