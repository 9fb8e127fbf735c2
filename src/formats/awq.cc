#include "formats/awq.h"

#include "base/error.h"
#include "base/parallel_for.h"
#include "formats/block_codes.h"
#include "quant/codes.h"

namespace crumb::formats {
namespace {

constexpr std::int64_t kWord = 8;  // nibbles
constexpr std::int64_t kOrder[kWord] = {0, 2, 4, 6, 1, 3, 5, 7};

void check_layout(std::int64_t n, int bits, ErrorKind kind, std::string_view name) {
  if (bits != 4 || n % kWord != 0)
    fail(kind, "formats.awq", name, ": ", bits, " bits, N = ", n,
         "; AWQ has 4 bits and a multiple of 8 outputs");
}

// Rows of codes [rows, N], element (r, c) at codes[r * row + c * column], to words [rows, N / 8] and back.
struct Place {
  std::int64_t rows, n, row, column;
};

void pack(const std::uint8_t* codes, const Place& at, std::uint32_t* words) {
  parallel_for(at.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint8_t> ordered(static_cast<std::size_t>(at.n));
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t i = 0; i < at.n; ++i)
        ordered[static_cast<std::size_t>(i)] =
            codes[r * at.row + (i / kWord * kWord + kOrder[i % kWord]) * at.column];
      quant::pack_codes(ordered.data(), 1, at.n, 4, quant::WordLayout::kDense, words + r * at.n / kWord, 1);
    }
  });
}

void unpack(const std::uint32_t* words, const Place& at, std::uint8_t* codes) {
  parallel_for(at.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint8_t> ordered(static_cast<std::size_t>(at.n));
    for (std::int64_t r = begin; r < end; ++r) {
      quant::unpack_codes(words + r * at.n / kWord, 1, at.n, 4, quant::WordLayout::kDense, ordered.data(), 1);
      for (std::int64_t i = 0; i < at.n; ++i)
        codes[r * at.row + (i / kWord * kWord + kOrder[i % kWord]) * at.column] =
            ordered[static_cast<std::size_t>(i)];
    }
  });
}

// [rows, columns] -> [columns, rows]
std::vector<float> transposed(const std::vector<float>& x, std::int64_t rows, std::int64_t columns) {
  std::vector<float> out(x.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c)
      out[static_cast<std::size_t>(c * rows + r)] = x[static_cast<std::size_t>(r * columns + c)];
  }
  return out;
}

}  // namespace

AwqParts pack_awq(const quant::QuantizedLinear& linear) {
  quant::check_quantized_linear(linear, "pack_awq");
  const std::int64_t n = linear.n, k = linear.k, groups = linear.spec.groups(k);
  check_layout(n, linear.spec.bits, ErrorKind::kInvalidArgument, "pack_awq");
  AwqParts out{n, k, {}, {}, transposed(linear.scales, n, groups)};
  out.qweight.resize(static_cast<std::size_t>(k * n / kWord));
  out.qzeros.resize(static_cast<std::size_t>(groups * n / kWord));
  pack(linear.codes.data(), {k, n, 1, k}, out.qweight.data());
  pack(linear.zero_points.data(), {groups, n, 1, groups}, out.qzeros.data());
  return out;
}

quant::QuantizedLinear unpack_awq(const AwqParts& parts, const quant::AffineSpec& spec,
                                  std::string_view name) {
  const std::int64_t n = parts.n, k = parts.k;
  check_layout(n, spec.bits, ErrorKind::kUnsupported, name);
  quant::check_spec(spec, k, name);
  const std::int64_t groups = spec.groups(k);
  const auto check_size = [&](std::string_view part, std::size_t found, std::int64_t expected) {
    check_part_size("formats.unpack_awq", name, part, found, expected, n, k, spec, "does group_size");
  };
  check_size("qweight", parts.qweight.size(), k * n / kWord);
  check_size("qzeros", parts.qzeros.size(), groups * n / kWord);
  check_size("scales", parts.scales.size(), groups * n);
  quant::QuantizedLinear out{n, k, spec, {}, transposed(parts.scales, groups, n), {}};
  out.codes.resize(static_cast<std::size_t>(n * k));
  out.zero_points.resize(static_cast<std::size_t>(n * groups));
  unpack(parts.qweight.data(), {k, n, 1, k}, out.codes.data());
  unpack(parts.qzeros.data(), {groups, n, 1, groups}, out.zero_points.data());
  quant::check_quantized_linear(out, name);
  return out;
}

}  // namespace crumb::formats
