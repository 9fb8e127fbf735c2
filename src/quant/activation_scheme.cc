#include "quant/activation_scheme.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/str.h"

namespace crumb::quant {

namespace {

constexpr std::array kGranularities = {std::pair{Granularity::kPerToken, std::string_view("per_token")},
                                       std::pair{Granularity::kPerTensor, std::string_view("per_tensor")},
                                       std::pair{Granularity::kPerChannel, std::string_view("per_channel")}};

}  // namespace

std::string_view to_string(Granularity granularity) noexcept {
  for (const auto& [value, word] : kGranularities)
    if (value == granularity) return word;
  return "?";
}

std::optional<Granularity> parse_granularity(std::string_view text) noexcept {
  for (const auto& [value, word] : kGranularities)
    if (word == text) return value;
  return std::nullopt;
}

void check_static_grid(const StaticGrid& grid, const ActivationScheme& scheme, std::int64_t k,
                       std::string_view subject) {
  const auto refuse = [&](const std::string& found) {
    fail(ErrorKind::kCorrupt, "quant.static_grid", subject, ": ", found, "; the checkpoint is damaged");
  };
  const auto count = static_cast<std::size_t>(scheme.inputs == Granularity::kPerTensor ? 1 : k);
  if (grid.scales.size() != count || grid.zero_points.size() != count)
    refuse(cat(grid.scales.size(), " input scales and ", grid.zero_points.size(), " zero points; want ",
               count, " (", to_string(scheme.inputs), ", ", k, " inputs)"));
  const auto top = static_cast<float>((1 << scheme.bits) - 1);
  for (const float scale : grid.scales)
    if (!std::isfinite(scale) || scale <= 0)
      refuse(cat("an input scale is ", scale, "; want a positive number"));
  for (const float z : grid.zero_points)
    if (!(z >= 0 && z <= top) || z != std::floor(z))
      refuse(cat("an input zero point is ", z, "; want 0 … ", top));
}

void check_activation_scheme(const ActivationScheme& scheme, std::string_view subject) {
  for (const auto& [name, bits] :
       {std::pair{"activations", scheme.bits}, std::pair{"keys and values", scheme.kv_bits}}) {
    if (!is_activation_bits(bits)) {
      fail(ErrorKind::kInvalidArgument, "quant.activation_scheme", subject, ": ", name, " of ", bits,
           " bits: not supported; want 2 … 8, or 16 for no rounding");
    }
  }
}

std::string scheme_name(const ActivationScheme& scheme) {
  if (!scheme.rounds()) return "";
  return cat("a", scheme.bits, scheme.kv_bits < 16 ? cat("kv", scheme.kv_bits) : "",
             scheme.symmetric ? "" : " asym", scheme.is_static() ? cat(" ", to_string(scheme.inputs)) : "");
}

}  // namespace crumb::quant
