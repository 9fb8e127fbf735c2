#include "kernels/lowbit.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "kernels/lowbit/layout.h"

namespace crumb::kernels {
namespace {

bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % kLowbitAlignment == 0;
}

/// Sizes of the arrays of LowbitActivations, in the order in which they lie.
struct ActivationLayout {
  std::int64_t stride, chunks, first_bytes, scale_bytes, sum_bytes;
  std::int64_t bytes() const { return first_bytes + scale_bytes + sum_bytes; }
};

ActivationLayout activation_layout(std::int64_t m, std::int64_t k, std::int64_t group_size, LowbitMode mode) {
  CRUMB_CHECK(m >= 1 && k >= 1 && group_size >= 1 && k % group_size == 0);
  const LowbitGeometry g = lowbit_geometry({1, k, group_size, 8, quant::Grid::kAsym});
  ActivationLayout layout{};
  // An odd number of lines between rows spreads them over the sets of a cache; the gap of at least one line
  // lets a tile of 64 k be read where only 32 are left.
  std::int64_t lines = up_to(g.groups * g.steps * kStep, 64) / 64 + 1;
  if (lines % 2 == 0) ++lines;
  layout.stride = lines * 64;
  layout.chunks = g.groups * g.chunks;
  if (mode == LowbitMode::kExact) {
    layout.first_bytes = m * layout.stride * 4;
  } else {
    layout.first_bytes = m * layout.stride;
    layout.scale_bytes = layout.sum_bytes = up_to(m * layout.chunks * 4, 64);
  }
  return layout;
}

}  // namespace

std::string_view to_string(LowbitMode mode) noexcept {
  return mode == LowbitMode::kInt8 ? "int8" : "exact";
}

LowbitShape lowbit_shape(std::int64_t n, std::int64_t k, const quant::AffineSpec& spec,
                         std::string_view name) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // keeps every product of sizes in 64 bits
  if (n < 1 || k < 1 || n > kMost || k > kMost) {
    fail(ErrorKind::kInvalidArgument, "kernels.lowbit", name, ": shape [", n, ", ", k,
         "]; expected 1 to 2^31 rows and columns");
  }
  quant::AffineSpec checked = spec;
  if (spec.bits == 6) checked.bits = 8;  // no checkpoint has it; this layout does
  quant::check_spec(checked, k, name);
  return {n, k, spec.group_of(k), spec.bits, spec.grid};
}

std::int64_t lowbit_tile_bytes(const LowbitShape& shape) {
  return lowbit_geometry(shape).tile_bytes;
}
std::int64_t lowbit_bytes(const LowbitShape& shape) {
  return shape.tiles() * lowbit_tile_bytes(shape);
}

LowbitMatrix lowbit_matrix(const LowbitShape& shape, std::span<const std::byte> memory,
                           std::uint32_t layout_version, std::string_view name) {
  if (layout_version != kLowbitLayoutVersion) {
    fail(ErrorKind::kUnsupported, "kernels.lowbit", name, ": packed in layout version ", layout_version,
         "; this build reads version ", kLowbitLayoutVersion, ". Pack the weights again");
  }
  if (static_cast<std::int64_t>(memory.size()) != lowbit_bytes(shape)) {
    fail(ErrorKind::kCorrupt, "kernels.lowbit", name, ": ", memory.size(), " bytes of packed weights; [",
         shape.n, ", ", shape.k, "] at ", shape.bits, " bits in groups of ", shape.group_size, " takes ",
         lowbit_bytes(shape), ". Pack the weights again");
  }
  if (!aligned(memory.data())) {
    fail(ErrorKind::kCorrupt, "kernels.lowbit", name, ": packed weights begin at an address that is ",
         reinterpret_cast<std::uintptr_t>(memory.data()) % kLowbitAlignment, " modulo ", kLowbitAlignment,
         "; expected 0. Pack the weights again");
  }
  return {shape, memory.data()};
}

std::int64_t lowbit_activation_bytes(std::int64_t m, std::int64_t k, std::int64_t group_size,
                                     LowbitMode mode) {
  return activation_layout(m, k, group_size, mode).bytes();
}

LowbitActivations lowbit_activations(std::int64_t m, std::int64_t k, std::int64_t group_size, LowbitMode mode,
                                     std::span<std::byte> memory) {
  const ActivationLayout layout = activation_layout(m, k, group_size, mode);
  CRUMB_CHECK(static_cast<std::int64_t>(memory.size()) >= layout.bytes() && aligned(memory.data()));
  LowbitActivations x{mode,          m,       k,       group_size, layout.stride,
                      layout.chunks, nullptr, nullptr, nullptr,    nullptr};
  if (mode == LowbitMode::kExact) {
    x.values = reinterpret_cast<float*>(memory.data());
  } else {
    x.codes = reinterpret_cast<std::int8_t*>(memory.data());
    x.scales = reinterpret_cast<float*>(memory.data() + layout.first_bytes);
    x.sums = reinterpret_cast<std::int32_t*>(memory.data() + layout.first_bytes + layout.scale_bytes);
  }
  return x;
}

std::span<const Variant<LowbitFunctions>> lowbit_variants() {
  static const Variant<LowbitFunctions> kVariants[] = {{Isa::kAmx, lowbit_amx()},
                                                       {Isa::kAvx512Vnni, lowbit_avx512vnni()},
                                                       {Isa::kAvx2, lowbit_avx2()},
                                                       {Isa::kRef, lowbit_ref()}};
  return kVariants;
}

const Variant<LowbitFunctions>& lowbit_variant() {
  return choose(lowbit_variants());
}

void prepare_lowbit(const LowbitFunctions& functions, const float* x, std::int64_t ldx,
                    const LowbitActivations& out, std::int64_t begin, std::int64_t end) {
  CRUMB_CHECK(begin >= 0 && begin <= end && end <= out.m && ldx >= out.k);
  functions.prepare(x, ldx, out, begin, end);
}

void prepare_lowbit_tokens(const TokenQuantFunctions& functions, const float* x, std::int64_t ldx, int bits,
                           bool symmetric, const LowbitActivations& out, std::int64_t begin, std::int64_t end,
                           const quant::TokenGrid* fixed) {
  CRUMB_CHECK(begin >= 0 && begin <= end && end <= out.m && ldx >= out.k && bits >= 2 && bits <= 8);
  CRUMB_CHECK(out.mode == LowbitMode::kExact || quant::fits_int8(bits, symmetric));
  const LowbitGeometry g = lowbit_geometry({1, out.k, out.group_size, 8, quant::Grid::kAsym});
  const std::int64_t padding = g.steps * kStep - out.group_size;
  for (std::int64_t m = begin; m < end; ++m) {
    const quant::TokenGrid grid = token_grid(functions, x + m * ldx, out.k, bits, symmetric, fixed);
    for (std::int64_t group = 0; group < g.groups; ++group) {
      const float* const from = x + m * ldx + group * out.group_size;
      const std::int64_t at = m * out.stride + activation_offset(g, group);
      if (out.mode == LowbitMode::kExact) {
        functions.values(from, out.group_size, grid, out.values + at);
        std::fill_n(out.values + at + out.group_size, padding, 0.0f);
        continue;
      }
      std::memset(out.codes + at + out.group_size, 0, static_cast<std::size_t>(padding));
      const std::int64_t first = m * out.chunks + group * g.chunks;
      for (std::int64_t c = 0; c < g.chunks; ++c) {
        out.scales[first + c] = grid.scale;
        out.sums[first + c] =
            functions.codes(from + c * kChunk, std::min(kChunk, out.group_size - c * kChunk), grid,
                            out.codes + at + c * kChunk);
      }
    }
  }
}

void lowbit_multiply(const LowbitFunctions& functions, const LowbitMatrix& w, const LowbitActivations& x,
                     std::int64_t begin, std::int64_t end, float* y, std::int64_t ldy) {
  CRUMB_CHECK(w.shape.k == x.k && w.shape.group_size == x.group_size);
  CRUMB_CHECK(begin >= 0 && begin <= end && end <= w.shape.tiles() && ldy >= w.shape.n);
  functions.multiply[static_cast<int>(x.mode)](w, x, begin, end, y, ldy);
}

}  // namespace crumb::kernels
