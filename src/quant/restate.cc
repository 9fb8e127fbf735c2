#include "quant/restate.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/half.h"
#include "base/parallel_for.h"
#include "quant/affine.h"
#include "quant/clip_search.h"
#include "quant/relative_error.h"

namespace crumb::quant {

QuantizedLinear split_groups(QuantizedLinear linear, std::int64_t group_size) {
  const std::int64_t group = linear.spec.group_of(linear.k);
  CRUMB_CHECK(group_size > 0 && group % group_size == 0);
  const std::int64_t times = group / group_size;
  linear.spec.group_size = group_size;
  if (times == 1) return linear;
  std::vector<float> scales;
  std::vector<std::uint8_t> zero_points;
  scales.reserve(linear.scales.size() * static_cast<std::size_t>(times));
  zero_points.reserve(scales.capacity());
  for (std::size_t i = 0; i < linear.scales.size(); ++i) {
    scales.insert(scales.end(), static_cast<std::size_t>(times), linear.scales[i]);
    zero_points.insert(zero_points.end(), static_cast<std::size_t>(times), linear.zero_points[i]);
  }
  linear.scales = std::move(scales);
  linear.zero_points = std::move(zero_points);
  return linear;
}

std::int64_t asymmetric_groups(const QuantizedLinear& linear) {
  const int half = 1 << (linear.spec.bits - 1);
  return std::count_if(linear.zero_points.begin(), linear.zero_points.end(),
                       [&](std::uint8_t z) { return z != half && z != half - 1; });
}

QuantizedLinear make_symmetric(QuantizedLinear linear) {
  CRUMB_CHECK(asymmetric_groups(linear) == 0);
  const std::int64_t group = linear.spec.group_of(linear.k);
  const auto max_code = static_cast<std::uint8_t>(linear.spec.max_code());
  const std::uint8_t half = static_cast<std::uint8_t>(1 << (linear.spec.bits - 1));
  parallel_for(static_cast<std::int64_t>(linear.zero_points.size()), 256,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const auto g = static_cast<std::size_t>(i);
                   if (linear.zero_points[g] == half) continue;
                   linear.zero_points[g] = half;
                   linear.scales[g] = -linear.scales[g];
                   std::uint8_t* codes = linear.codes.data() + i * group;
                   for (std::int64_t j = 0; j < group; ++j)
                     codes[j] = static_cast<std::uint8_t>(max_code - codes[j]);
                 }
               });
  linear.spec.grid = Grid::kSignedSym;
  return linear;
}

QuantizedLinear widen(QuantizedLinear linear, int bits) {
  CRUMB_CHECK(bits >= linear.spec.bits && bits <= 8);
  if (bits != linear.spec.bits) linear.spec.grid = Grid::kAsym;
  linear.spec.bits = bits;
  return linear;
}

QuantizedLinear requantize(const QuantizedLinear& linear, const AffineSpec& spec) {
  check_spec(spec, linear.k, "requantize");
  const std::vector<float> w = dequantize(linear);
  const std::int64_t group = spec.group_of(linear.k);
  const auto groups = static_cast<std::size_t>(linear.n * spec.groups(linear.k));
  QuantizedLinear out{linear.n, linear.k, spec, std::vector<std::uint8_t>(w.size()), {}, {}};
  std::vector<float> zeros(groups);
  out.scales.resize(groups);
  out.zero_points.resize(groups);
  init_clip_search(w, linear.n, linear.k, spec, {}, {}, true, out.scales, zeros);
  for (std::size_t g = 0; g < groups; ++g) {
    out.scales[g] = round_to_f16(effective_scale(out.scales[g]));
    const float zero = effective_zero_point(zeros[g], spec);
    out.zero_points[g] = static_cast<std::uint8_t>(zero);
    for (std::size_t i = g * static_cast<std::size_t>(group); i < (g + 1) * static_cast<std::size_t>(group);
         ++i)
      out.codes[i] = static_cast<std::uint8_t>(quantize_one(w[i], out.scales[g], zero, spec.max_code()));
  }
  return out;
}

QuantizedLinear nearest_symmetric(QuantizedLinear linear) {
  const int half = 1 << (linear.spec.bits - 1);
  const auto group = static_cast<std::size_t>(linear.spec.group_of(linear.k));
  std::vector<std::size_t> others;
  for (std::size_t g = 0; g < linear.zero_points.size(); ++g)
    if (linear.zero_points[g] != half && linear.zero_points[g] != half - 1) others.push_back(g);
  // These groups as the rows of a small linear.
  const auto codes_of = [&](QuantizedLinear& of, std::size_t g) {
    return of.codes.begin() + static_cast<std::ptrdiff_t>(g * group);
  };
  QuantizedLinear rows{static_cast<std::int64_t>(others.size()),
                       static_cast<std::int64_t>(group),
                       {linear.spec.bits, -1, Grid::kAsym},
                       {},
                       {},
                       {}};
  for (const std::size_t g : others) {
    rows.codes.insert(rows.codes.end(), codes_of(linear, g), codes_of(linear, g + 1));
    rows.scales.push_back(linear.scales[g]);
    rows.zero_points.push_back(linear.zero_points[g]);
  }
  rows = requantize(rows, {linear.spec.bits, -1, Grid::kSignedSym});
  for (std::size_t i = 0; i < others.size(); ++i) {
    std::copy(codes_of(rows, i), codes_of(rows, i + 1), codes_of(linear, others[i]));
    linear.scales[others[i]] = rows.scales[i];
    linear.zero_points[others[i]] = rows.zero_points[i];
  }
  return make_symmetric(std::move(linear));
}

double relative_error(const QuantizedLinear& a, const QuantizedLinear& b) {
  return relative_error(dequantize(a), dequantize(b));
}

}  // namespace crumb::quant
