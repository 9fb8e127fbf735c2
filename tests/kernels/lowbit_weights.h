// Random quantized linears, their packed form in aligned memory, and activations, for the tests of the
// low-bit kernels.
#pragma once
#include <cstring>
#include <memory>
#include <new>

#include "base/half.h"
#include "kernels/forced_isa.h"
#include "kernels/lowbit.h"

namespace crumb::kernels::test {

/// 64-byte aligned bytes, filled with 0xA5, with as many behind them that must stay so.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::int64_t count)
      : count_(static_cast<std::size_t>(count)),
        memory_(static_cast<std::byte*>(::operator new[](count_ + kFrame, std::align_val_t{64}))) {
    std::memset(memory_.get(), 0xA5, count_ + kFrame);
  }
  std::span<std::byte> span() const { return {memory_.get(), count_}; }
  std::byte* data() const { return memory_.get(); }
  bool frame_intact() const {
    for (std::size_t i = 0; i < kFrame; ++i) {
      if (memory_[count_ + i] != std::byte{0xA5}) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kFrame = 128;
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::size_t count_;
  std::unique_ptr<std::byte[], Free> memory_;
};

struct LowbitCase {
  std::int64_t n, k, group;
  int bits;
  quant::Grid grid;
};
inline void PrintTo(const LowbitCase& c, std::ostream* out) {
  *out << "[" << c.n << ", " << c.k << "] " << c.bits << " bits, group " << c.group << ", "
       << quant::to_string(c.grid);
}

/// Every width and grid with whole and padded tiles, groups and blocks of 16 groups.
inline std::vector<LowbitCase> lowbit_cases() {
  std::vector<LowbitCase> cases;
  for (const int bits : {2, 3, 4, 6, 8}) {
    for (const quant::Grid grid : {quant::Grid::kAsym, quant::Grid::kSignedSym}) {
      for (const auto& [n, k, group] : std::initializer_list<std::array<std::int64_t, 3>>{
               {16, 64, 64},    // one tile, one group
               {17, 576, 64},   // nine groups, a row in the second tile
               {33, 576, 32},   // 18 groups: a block and a short one; three tiles: a pair and one
               {15, 256, 128},  // two chunks to a group
               {50, 1088, 64},  // 17 groups
               {1, 576, -1},    // per channel, nine chunks
               {16, 96, 96},    // a chunk and half a chunk
               {31, 100, 20},   // groups padded to 32
               {18, 7, -1}}) {  // less than a quad and a half
        cases.push_back({n, k, group, bits, grid});
      }
    }
  }
  return cases;
}

inline quant::QuantizedLinear random_linear(const LowbitCase& c, std::uint64_t seed) {
  SplitMix64 rng(seed);
  quant::QuantizedLinear linear{c.n, c.k, {c.bits, c.group, c.grid}, {}, {}, {}};
  const std::uint64_t max_code = (1u << c.bits) - 1;
  for (std::int64_t i = 0; i < c.n * c.k; ++i)
    linear.codes.push_back(static_cast<std::uint8_t>(rng.next() & max_code));
  for (std::int64_t i = 0; i < c.n * linear.spec.groups(c.k); ++i) {
    const float scale = round_to_f16(static_cast<float>(0.001 + 0.03 * rng.uniform()));
    const bool symmetric = c.grid == quant::Grid::kSignedSym;
    linear.scales.push_back(!symmetric && rng.uniform() < 0.1 ? -scale
                                                              : scale);  // files may hold negative ones
    linear.zero_points.push_back(
        static_cast<std::uint8_t>(symmetric ? (max_code + 1) / 2 - (rng.next() & 1) : rng.next() & max_code));
  }
  return linear;
}

/// A linear and its packed form.
struct PackedLinear {
  quant::QuantizedLinear linear;
  LowbitShape shape;
  AlignedBytes memory;
  LowbitMatrix view() const { return lowbit_matrix(shape, memory.span(), kLowbitLayoutVersion, "w"); }
};

inline PackedLinear pack_whole(quant::QuantizedLinear linear) {
  const LowbitShape shape = lowbit_shape(linear.n, linear.k, linear.spec, "w");
  AlignedBytes memory(lowbit_bytes(shape));
  pack_lowbit(linear, shape, 0, shape.tiles(), memory.data(), "w");
  return {std::move(linear), shape, std::move(memory)};
}

/// x in the form that the products take, its memory with it.
struct PreparedActivations {
  AlignedBytes memory;
  LowbitActivations view;
};

inline PreparedActivations prepare_whole(const LowbitFunctions& functions, const LowbitShape& shape,
                                         const float* x, std::int64_t m, std::int64_t ldx, LowbitMode mode) {
  AlignedBytes memory(lowbit_activation_bytes(m, shape.k, shape.group_size, mode));
  const LowbitActivations view = lowbit_activations(m, shape.k, shape.group_size, mode, memory.span());
  prepare_lowbit(functions, x, ldx, view, 0, m);
  return {std::move(memory), view};
}

}  // namespace crumb::kernels::test
