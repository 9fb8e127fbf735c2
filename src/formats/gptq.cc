#include "formats/gptq.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/half.h"
#include "base/parallel_for.h"
#include "formats/block_codes.h"

namespace crumb::formats {
namespace {

using quant::WordLayout;

// Dense words must come out full, because readers compute their number as count * bits / 32.
void check_dense_multiple(std::int64_t count, int bits, std::string_view what) {
  const std::int64_t multiple = 32 % bits == 0 ? 32 / bits : 32;
  if (count % multiple == 0) return;
  fail(ErrorKind::kInvalidArgument, "formats.check_gptq_shape", what, " ", count, " is no multiple of ",
       multiple, ", which GPTQ's ", bits, "-bit words need; keep this linear in float or choose other bits");
}

// Codes [K] of each row against words [words, N]: the two orders are each other's transpose, so both
// directions go through tiles of kTileRows outputs (one cache line of words) by one chunk of codes that fills
// whole words.
constexpr std::int64_t kTileRows = 16;

struct Chunk {
  std::int64_t codes, words;
};
Chunk chunk_of(int bits, WordLayout layout) {
  if (layout == WordLayout::kPadded || 32 % bits == 0) return {32 / bits, 1};
  return {32, bits};
}

// Calls body(row, rows, code, codes, word, words) for every tile, parallel over rows.
template <class Body>
void for_each_tile(std::int64_t n, std::int64_t k, int bits, WordLayout layout, const Body& body) {
  const Chunk chunk = chunk_of(bits, layout);
  parallel_for((n + kTileRows - 1) / kTileRows, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t row = tile * kTileRows, rows = std::min(kTileRows, n - row);
      for (std::int64_t code = 0; code < k; code += chunk.codes) {
        const std::int64_t codes = std::min(chunk.codes, k - code);
        body(row, rows, code, codes, code / chunk.codes * chunk.words,
             quant::packed_words(codes, bits, layout));
      }
    }
  });
}

template <class T>
std::vector<std::byte> to_bytes(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

io::TensorToWrite tensor(std::string name, DType dtype, std::vector<std::int64_t> shape,
                         std::vector<std::byte> bytes) {
  auto held = std::make_shared<std::vector<std::byte>>(std::move(bytes));
  return {std::move(name), dtype, std::move(shape), [held] { return std::move(*held); }};
}

std::vector<std::byte> scales_as_f16(const std::string& name, const std::vector<float>& scales) {
  std::vector<std::uint16_t> halves(scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    halves[i] = float_to_f16(scales[i]);
    if (f16_to_float(halves[i]) != scales[i] || !std::isfinite(scales[i])) {
      fail(ErrorKind::kInvalidArgument, "formats.gptq_tensors_to_write", name, ": scale ", i, " is ",
           scales[i],
           ", no finite binary16 number; round scales with round_to_f16 before the codes are chosen");
    }
  }
  return to_bytes(halves);
}

}  // namespace

void check_gptq_shape(std::int64_t n, std::int64_t k, int bits) {
  check_dense_multiple(k, bits, "in_features K =");
  check_dense_multiple(n, bits, "out_features N =");
}

GptqTensors pack_gptq(const quant::QuantizedLinear& linear, WordLayout layout, GptqZeros zeros) {
  quant::check_quantized_linear(linear, "pack_gptq");
  const int bits = linear.spec.bits;
  const std::int64_t n = linear.n, k = linear.k, groups = linear.spec.groups(k),
                     group = linear.spec.group_of(k);
  if (layout == WordLayout::kDense) check_gptq_shape(n, k, bits);
  std::vector<std::uint8_t> stored = linear.zero_points;
  if (zeros == GptqZeros::kV1) {
    for (std::uint8_t& z : stored) {
      if (z == 0) {
        fail(ErrorKind::kInvalidArgument, "formats.pack_gptq",
             "a zero point is 0, which GPTQ v1 (stores z - 1) cannot hold; write v2, or keep zero points at "
             "1 or above");
      }
      --z;
    }
  }
  GptqTensors out;
  out.n = n;
  out.k = k;
  const std::int64_t rows = quant::packed_words(k, bits, layout),
                     columns = quant::packed_words(n, bits, layout);
  out.qweight.resize(static_cast<std::size_t>(rows * n));
  out.qzeros.resize(static_cast<std::size_t>(groups * columns));
  out.scales.resize(static_cast<std::size_t>(groups * n));
  out.g_idx.resize(static_cast<std::size_t>(k));
  for_each_tile(n, k, bits, layout,
                [&](std::int64_t row, std::int64_t tile_rows, std::int64_t code, std::int64_t codes,
                    std::int64_t word, std::int64_t words) {
                  std::uint32_t tile[8 * kTileRows];
                  for (std::int64_t r = 0; r < tile_rows; ++r) {
                    quant::pack_codes(linear.codes.data() + (row + r) * k + code, 1, codes, bits, layout,
                                      tile + r, kTileRows);
                  }
                  for (std::int64_t w = 0; w < words; ++w)
                    std::copy_n(tile + w * kTileRows, tile_rows, out.qweight.data() + (word + w) * n + row);
                });
  for (std::int64_t j = 0; j < groups; ++j) {
    for (std::int64_t row = 0; row < n; ++row) {
      out.scales[static_cast<std::size_t>(j * n + row)] =
          linear.scales[static_cast<std::size_t>(row * groups + j)];
    }
    quant::pack_codes(stored.data() + j, groups, n, bits, layout, out.qzeros.data() + j * columns, 1);
  }
  for (std::int64_t i = 0; i < k; ++i)
    out.g_idx[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i / group);
  return out;
}

quant::QuantizedLinear unpack_gptq(const GptqTensors& tensors, const quant::AffineSpec& spec,
                                   WordLayout layout, GptqZeros zeros, std::string_view name) {
  constexpr std::string_view kWhere = "formats.unpack_gptq";
  const std::int64_t n = tensors.n, k = tensors.k;
  quant::check_spec(spec, k, name);
  const std::int64_t groups = spec.groups(k), group = spec.group_of(k);
  const std::int64_t rows = quant::packed_words(k, spec.bits, layout),
                     columns = quant::packed_words(n, spec.bits, layout);
  const auto check_size = [&](std::string_view part, std::size_t found, std::int64_t expected) {
    check_part_size(kWhere, name, part, found, expected, n, k, spec, "do bits and group_size");
  };
  check_size("qweight", tensors.qweight.size(), rows * n);
  check_size("qzeros", tensors.qzeros.size(), groups * columns);
  check_size("scales", tensors.scales.size(), groups * n);
  // A file may leave g_idx out; plain groups are meant then.
  if (!tensors.g_idx.empty()) check_size("g_idx", tensors.g_idx.size(), k);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(tensors.g_idx.size()); ++i) {
    if (tensors.g_idx[static_cast<std::size_t>(i)] != i / group) {
      fail(ErrorKind::kUnsupported, kWhere, name, ": g_idx[", i, "] is ",
           tensors.g_idx[static_cast<std::size_t>(i)], "; expected ", i / group,
           " (input / group_size). Act-order checkpoints are not read; quantize with desc_act false");
    }
  }
  quant::QuantizedLinear out;
  out.n = n;
  out.k = k;
  out.spec = spec;
  out.codes.resize(static_cast<std::size_t>(n * k));
  out.scales.resize(static_cast<std::size_t>(n * groups));
  out.zero_points.resize(static_cast<std::size_t>(n * groups));
  for_each_tile(n, k, spec.bits, layout,
                [&](std::int64_t row, std::int64_t tile_rows, std::int64_t code, std::int64_t codes,
                    std::int64_t word, std::int64_t words) {
                  std::uint32_t tile[8 * kTileRows];
                  for (std::int64_t w = 0; w < words; ++w)
                    std::copy_n(tensors.qweight.data() + (word + w) * n + row, tile_rows,
                                tile + w * kTileRows);
                  for (std::int64_t r = 0; r < tile_rows; ++r) {
                    quant::unpack_codes(tile + r, kTileRows, codes, spec.bits, layout,
                                        out.codes.data() + (row + r) * k + code, 1);
                  }
                });
  for (std::int64_t j = 0; j < groups; ++j) {
    for (std::int64_t row = 0; row < n; ++row) {
      out.scales[static_cast<std::size_t>(row * groups + j)] =
          tensors.scales[static_cast<std::size_t>(j * n + row)];
    }
    quant::unpack_codes(tensors.qzeros.data() + j * columns, 1, n, spec.bits, layout,
                        out.zero_points.data() + j, groups);
  }
  if (zeros == GptqZeros::kV1) {
    for (std::size_t i = 0; i < out.zero_points.size(); ++i) {
      if (out.zero_points[i] == spec.max_code()) {
        fail(ErrorKind::kCorrupt, kWhere, name, ": zero point ", i, " is stored as ", spec.max_code(),
             "; v1 stores z - 1, so this is either z = ", spec.max_code() + 1,
             ", out of range, or an overflowed z = 0, and readers disagree; convert the checkpoint to "
             "gptq_v2");
      }
      ++out.zero_points[i];
    }
  }
  quant::check_quantized_linear(out, name);
  return out;
}

std::vector<io::TensorToWrite> gptq_tensors_to_write(const std::string& linear_name,
                                                     const quant::QuantizedLinear& linear) {
  quant::check_quantized_linear(linear, linear_name);
  const GptqTensors packed = pack_gptq(linear);
  const std::int64_t n = linear.n, k = linear.k, groups = linear.spec.groups(k);
  const std::int64_t rows = static_cast<std::int64_t>(packed.qweight.size()) / n,
                     columns = static_cast<std::int64_t>(packed.qzeros.size()) / groups;
  std::vector<io::TensorToWrite> out;
  out.push_back(tensor(linear_name + ".qweight", DType::kI32, {rows, n}, to_bytes(packed.qweight)));
  out.push_back(tensor(linear_name + ".qzeros", DType::kI32, {groups, columns}, to_bytes(packed.qzeros)));
  out.push_back(
      tensor(linear_name + ".scales", DType::kF16, {groups, n}, scales_as_f16(linear_name, packed.scales)));
  out.push_back(tensor(linear_name + ".g_idx", DType::kI32, {k}, to_bytes(packed.g_idx)));
  return out;
}

std::int64_t gptq_bytes(std::int64_t n, std::int64_t k, const quant::AffineSpec& spec) {
  const std::int64_t groups = spec.groups(k);
  const std::int64_t words = quant::packed_words(k, spec.bits, WordLayout::kDense) * n +
                             groups * quant::packed_words(n, spec.bits, WordLayout::kDense) + k;
  return words * 4 + groups * n * 2;
}

}  // namespace crumb::formats
