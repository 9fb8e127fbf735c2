#include "formats/input_grid.h"

#include "base/str.h"

namespace crumb::formats {

namespace {

constexpr std::string_view kScale = ".input_scale", kZeroPoint = ".input_zero_point";

}  // namespace

std::vector<io::TensorToWrite> input_grid_tensors(const std::string& stored_name,
                                                  const quant::StaticGrid& grid, bool symmetric) {
  const auto count = static_cast<std::int64_t>(grid.scales.size());
  std::vector<io::TensorToWrite> out;
  out.push_back({cat(stored_name, kScale), DType::kF32, {count}, [scales = grid.scales] {
                   return io::bytes_of(std::span<const float>(scales));
                 }});
  if (symmetric) return out;
  std::vector<std::int32_t> zero_points(grid.zero_points.begin(), grid.zero_points.end());
  out.push_back({cat(stored_name, kZeroPoint), DType::kI32, {count}, [zero_points = std::move(zero_points)] {
                   return io::bytes_of(std::span<const std::int32_t>(zero_points));
                 }});
  return out;
}

quant::StaticGrid read_input_grid(const TensorTable& tensors, const std::string& linear,
                                  const quant::ActivationScheme& scheme, std::int64_t k) {
  quant::StaticGrid grid{tensors.floats(cat(linear, kScale)), {}};
  if (scheme.symmetric) {
    grid.zero_points.assign(grid.scales.size(), static_cast<float>(1 << (scheme.bits - 1)));
  } else {
    const std::vector<std::int32_t> zero_points = tensors.integers(cat(linear, kZeroPoint));
    grid.zero_points.assign(zero_points.begin(), zero_points.end());
  }
  quant::check_static_grid(grid, scheme, k, cat(tensors.folder().string(), ": ", linear));
  return grid;
}

}  // namespace crumb::formats
