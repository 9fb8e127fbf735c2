#include "formats/mlx.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "formats/block_codes.h"
#include "quant/codes.h"

namespace crumb::formats {
namespace {

constexpr std::string_view kWhere = "formats.mlx";

// Distance of neighboring numbers of a dtype, relative to a number.
float unit(DType dtype) {
  if (dtype == DType::kF16) return 0x1p-10f;
  return dtype == DType::kBF16 ? 0x1p-7f : 0x1p-22f;
}

}  // namespace

MlxParts pack_mlx(const quant::QuantizedLinear& linear) {
  quant::check_quantized_linear(linear, "pack_mlx");
  const int bits = linear.spec.bits;
  if (linear.k * bits % 32 != 0)
    fail(ErrorKind::kInvalidArgument, kWhere, "K = ", linear.k, " at ", bits,
         " bits does not fill whole 32-bit words, which MLX needs");
  MlxParts out{linear.n, linear.k, {}, linear.scales, {}};
  out.words.resize(static_cast<std::size_t>(linear.n * linear.k * bits / 32));
  quant::pack_rows(linear.codes.data(), linear.n, linear.k, bits, out.words.data());
  for (std::size_t i = 0; i < linear.scales.size(); ++i)
    out.biases.push_back(-static_cast<float>(linear.zero_points[i]) * linear.scales[i]);
  return out;
}

bool fits_f16(const MlxParts& parts) {
  const auto fits = [](float v) { return round_to_f16(v) == v; };
  return std::all_of(parts.scales.begin(), parts.scales.end(), fits) &&
         std::all_of(parts.biases.begin(), parts.biases.end(), fits);
}

quant::QuantizedLinear unpack_mlx(const MlxParts& parts, const quant::AffineSpec& spec, DType stored,
                                  std::string_view name) {
  const std::int64_t n = parts.n, k = parts.k;
  quant::check_spec(spec, k, name);
  const std::int64_t groups = spec.groups(k);
  const auto check_size = [&](std::string_view part, std::size_t found, std::int64_t expected) {
    check_part_size(kWhere, name, part, found, expected, n, k, spec, "do bits and group_size");
  };
  if (k * spec.bits % 32 != 0)
    fail(ErrorKind::kCorrupt, kWhere, name, ": K = ", k, " at ", spec.bits,
         " bits does not fill whole words; config.json may be another model's");
  check_size("weight", parts.words.size(), n * k * spec.bits / 32);
  check_size("scales", parts.scales.size(), n * groups);
  check_size("biases", parts.biases.size(), n * groups);
  quant::QuantizedLinear out{
      n, k, spec, std::vector<std::uint8_t>(static_cast<std::size_t>(n * k)), parts.scales, {}};
  quant::unpack_rows(parts.words.data(), n, k, spec.bits, out.codes.data());
  out.zero_points.resize(parts.scales.size());
  for (std::size_t i = 0; i < parts.scales.size(); ++i) {
    const float scale = parts.scales[i], bias = parts.biases[i];
    const float zero = scale == 0 ? 0.0f : std::nearbyint(-bias / scale);
    const float off = std::abs(bias + zero * scale);
    // Below the smallest normal number of binary16 the distance no longer shrinks.
    const float allowed = std::max(unit(stored) * std::abs(bias),
                                   stored == DType::kF16 ? 0x1p-24f * std::max(zero, 1.0f) : 0.0f);
    if (!(zero >= 0 && zero <= static_cast<float>(spec.max_code())) || !(off <= allowed)) {
      fail(ErrorKind::kUnsupported, kWhere, name, ": group ", static_cast<std::int64_t>(i) % groups,
           " of row ", static_cast<std::int64_t>(i) / groups, " has scale ", scale, " and bias ", bias,
           ", whose quotient is no zero point of ", spec.bits,
           " bits; crumb's grid has w = (code - z) * scale "
           "with an integer z in 0 to ",
           spec.max_code(), "; start from the float checkpoint");
    }
    out.zero_points[i] = static_cast<std::uint8_t>(zero);
  }
  quant::check_quantized_linear(out, name);
  return out;
}

std::vector<float> dequantize_mlx(const MlxParts& parts, int bits, std::int64_t group_size) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(parts.n * parts.k));
  CRUMB_CHECK(parts.k % group_size == 0 && parts.k * bits % 32 == 0);
  CRUMB_CHECK(static_cast<std::int64_t>(parts.words.size()) == parts.n * parts.k * bits / 32);
  CRUMB_CHECK(static_cast<std::int64_t>(parts.scales.size()) == parts.n * parts.k / group_size);
  CRUMB_CHECK(parts.biases.size() == parts.scales.size());
  quant::unpack_rows(parts.words.data(), parts.n, parts.k, bits, codes.data());
  std::vector<float> values(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::size_t group = i / static_cast<std::size_t>(group_size);
    values[i] = parts.scales[group] * static_cast<float>(codes[i]) + parts.biases[group];
  }
  return values;
}

}  // namespace crumb::formats
