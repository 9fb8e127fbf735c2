// What a uniform group-wise quantization is: bits, group size, and which zero points it may use.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace crumb::quant {

/// Which zero points a group may have.
enum class Grid {
  kAsym,       // any integer in [0, 2^bits - 1]
  kSignedSym,  // 2^(bits-1) - 1 or 2^(bits-1), scale > 0. Equal to z = 2^(bits-1) with a scale of either
               // sign: every symmetric format can store it, and at 2 bits it costs nothing (docs/math.md, Q5)
};

std::string_view to_string(Grid grid) noexcept;
/// "asym" or "signed-sym"; throws InvalidArgument with both names otherwise.
Grid parse_grid(std::string_view text);

/// A weight [N, K] is cut along K into groups that share one scale and one zero point.
struct AffineSpec {
  int bits = 2;                  // 2 … 8
  std::int64_t group_size = 64;  // weights along K sharing one scale; -1 means K itself (per output channel)
  Grid grid = Grid::kAsym;
  bool operator==(const AffineSpec&) const = default;

  std::int32_t max_code() const { return (1 << bits) - 1; }
  std::int64_t group_of(std::int64_t k) const { return group_size == -1 ? k : group_size; }
  std::int64_t groups(std::int64_t k) const { return k / group_of(k); }
};

/// Throws InvalidArgument unless bits is 2 to 8 and the group size is positive (or -1) and divides k.
void check_grid(const AffineSpec& spec, std::int64_t k, std::string_view name);

/// check_grid of what files store: throws InvalidArgument unless bits is 2, 3, 4 or 8 and the group size is
/// positive (or -1) and divides k. `name` is the linear the message speaks of.
void check_spec(const AffineSpec& spec, std::int64_t k, std::string_view name);

/// "w2g64", "w4" for per-channel.
std::string scheme_name(const AffineSpec& spec);

}  // namespace crumb::quant
