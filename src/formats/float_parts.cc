#include "formats/float_parts.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/half.h"
#include "io/safetensors.h"

namespace crumb::formats {
namespace {

constexpr std::int64_t kValuesOfAPart = 1 << 20;

}  // namespace

void for_each_float_part(const Checkpoint& source, std::string_view name,
                         const std::function<void(std::int64_t, std::span<const float>)>& part) {
  const std::vector<std::int64_t> shape = source.shape(name);
  const std::int64_t rows = shape.empty() ? 1 : shape[0];
  const std::int64_t columns =
      shape.empty() ? 1
                    : std::accumulate(shape.begin() + 1, shape.end(), std::int64_t{1}, std::multiplies<>());
  const std::int64_t step = std::max<std::int64_t>(1, kValuesOfAPart / std::max<std::int64_t>(columns, 1));
  for (std::int64_t first = 0; first < rows; first += step)
    part(first * columns, source.read_f32_rows(name, first, std::min(step, rows - first)));
}

std::vector<std::byte> float_bytes(const Checkpoint& source, std::string_view name, DType dtype) {
  std::vector<std::byte> out;
  for_each_float_part(source, name, [&](std::int64_t first, std::span<const float> values) {
    if (first == 0) {
      const std::vector<std::int64_t> shape = source.shape(name);
      out.reserve(static_cast<std::size_t>(
          std::accumulate(shape.begin(), shape.end(), size_bytes(dtype), std::multiplies<std::int64_t>())));
    }
    const std::vector<std::byte> bytes = io::convert_from_f32(values, dtype);
    out.insert(out.end(), bytes.begin(), bytes.end());
  });
  return out;
}

std::int64_t count_beyond_f16(const Checkpoint& source, std::string_view name) {
  std::int64_t count = 0;
  for_each_float_part(source, name, [&](std::int64_t, std::span<const float> values) {
    count += std::count_if(values.begin(), values.end(), [](float v) { return round_to_f16(v) != v; });
  });
  return count;
}

}  // namespace crumb::formats
