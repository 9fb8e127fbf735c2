#include "formats/compressed_tensors.h"

#include <algorithm>

#include "base/error.h"
#include "formats/block_codes.h"

namespace crumb::formats {

using quant::WordLayout;

namespace {

void check_symmetric(const quant::QuantizedLinear& linear) {
  const int half = 1 << (linear.spec.bits - 1);
  const auto other = std::find_if(linear.zero_points.begin(), linear.zero_points.end(),
                                  [&](std::uint8_t z) { return z != half; });
  if (other != linear.zero_points.end())
    fail(ErrorKind::kInvalidArgument, "formats.pack_compressed", "a zero point is ", int{*other},
         "; symmetric weights have ", half, " everywhere");
}

/// Of the parts of one linear.
struct PartSizes {
  std::int64_t n, k;
  const quant::AffineSpec& spec;
  std::string_view name;
  void check(std::string_view part, std::size_t found, std::int64_t expected) const {
    check_part_size("formats.unpack_compressed", name, part, found, expected, n, k, spec,
                    "do num_bits and group_size");
  }
};

}  // namespace

CompressedParts pack_compressed(const quant::QuantizedLinear& linear, bool symmetric) {
  quant::check_quantized_linear(linear, "pack_compressed");
  const int bits = linear.spec.bits;
  const std::int64_t groups = linear.spec.groups(linear.k);
  CompressedParts out{linear.n, linear.k, {}, linear.scales, {}};
  out.packed.resize(
      static_cast<std::size_t>(linear.n * quant::packed_words(linear.k, bits, WordLayout::kDense)));
  quant::pack_rows(linear.codes.data(), linear.n, linear.k, bits, out.packed.data());
  if (symmetric) {
    check_symmetric(linear);
    return out;
  }
  out.zero_points.resize(
      static_cast<std::size_t>(quant::packed_words(linear.n, bits, WordLayout::kDense) * groups));
  for (std::int64_t j = 0; j < groups; ++j)
    quant::pack_codes(linear.zero_points.data() + j, groups, linear.n, bits, WordLayout::kDense,
                      out.zero_points.data() + j, groups);
  return out;
}

quant::QuantizedLinear unpack_compressed(const CompressedParts& parts, const quant::AffineSpec& spec,
                                         WordLayout layout, WordLayout zero_layout, std::string_view name) {
  const std::int64_t n = parts.n, k = parts.k;
  quant::check_spec(spec, k, name);
  const std::int64_t groups = spec.groups(k);
  const PartSizes sizes{n, k, spec, name};
  sizes.check("weight_packed", parts.packed.size(), n * quant::packed_words(k, spec.bits, layout));
  sizes.check("weight_scale", parts.scales.size(), n * groups);
  quant::QuantizedLinear out{
      n, k, spec, std::vector<std::uint8_t>(static_cast<std::size_t>(n * k)), parts.scales, {}};
  quant::unpack_rows(parts.packed.data(), n, k, spec.bits, out.codes.data(), layout);
  out.zero_points.assign(static_cast<std::size_t>(n * groups),
                         static_cast<std::uint8_t>(1 << (spec.bits - 1)));
  if (!parts.zero_points.empty()) {
    sizes.check("weight_zero_point", parts.zero_points.size(),
                quant::packed_words(n, spec.bits, zero_layout) * groups);
    for (std::int64_t j = 0; j < groups; ++j)
      quant::unpack_codes(parts.zero_points.data() + j, groups, n, spec.bits, zero_layout,
                          out.zero_points.data() + j, groups);
  }
  quant::check_quantized_linear(out, name);
  return out;
}

CompressedBytes bytes_compressed(const quant::QuantizedLinear& linear) {
  quant::check_quantized_linear(linear, "bytes_compressed");
  check_symmetric(linear);
  CompressedBytes out{linear.n, linear.k, std::vector<std::int8_t>(linear.codes.size()), linear.scales, {}};
  const int half = 1 << (linear.spec.bits - 1);
  std::transform(linear.codes.begin(), linear.codes.end(), out.codes.begin(),
                 [half](std::uint8_t code) { return static_cast<std::int8_t>(code - half); });
  return out;
}

quant::QuantizedLinear unpack_bytes_compressed(const CompressedBytes& parts, const quant::AffineSpec& spec,
                                               std::string_view name) {
  const std::int64_t n = parts.n, k = parts.k;
  quant::check_spec(spec, k, name);
  const std::int64_t groups = spec.groups(k);
  const PartSizes sizes{n, k, spec, name};
  sizes.check("weight", parts.codes.size(), n * k);
  sizes.check("weight_scale", parts.scales.size(), n * groups);
  const int half = 1 << (spec.bits - 1);
  const auto unsigned_of = [&](const std::vector<std::int8_t>& from, std::string_view part) {
    std::vector<std::uint8_t> to(from.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      if (from[i] < -half || from[i] >= half)
        fail(ErrorKind::kCorrupt, "formats.unpack_compressed", name, ": ", part, "[", i, "] is ",
             int{from[i]}, "; ", spec.bits, " bits hold ", -half, " … ", half - 1,
             "; num_bits may be another model's");
      to[i] = static_cast<std::uint8_t>(from[i] + half);
    }
    return to;
  };
  quant::QuantizedLinear out{n, k, spec, unsigned_of(parts.codes, "weight"), parts.scales, {}};
  out.zero_points.assign(static_cast<std::size_t>(n * groups), static_cast<std::uint8_t>(half));
  if (!parts.zero_points.empty()) {
    sizes.check("weight_zero_point", parts.zero_points.size(), n * groups);
    out.zero_points = unsigned_of(parts.zero_points, "weight_zero_point");
  }
  quant::check_quantized_linear(out, name);
  return out;
}

}  // namespace crumb::formats
