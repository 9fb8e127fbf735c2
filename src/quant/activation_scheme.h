// How a model's activations are rounded when it runs.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::quant {

/// What shares one grid among the inputs of a linear.
enum class Granularity {
  kPerToken,   // dynamic: each token's vector, its grid made anew in every forward pass
  kPerTensor,  // static: all of them, one grid found by calibration (SmoothQuant-O3, arXiv:2211.10438 §4)
  kPerChannel  // static: each input channel
};
/// "per_token", "per_tensor", "per_channel".
std::string_view to_string(Granularity granularity) noexcept;
std::optional<Granularity> parse_granularity(std::string_view text) noexcept;

/// Rounding of activations (docs/math.md, T1): dynamic ones have a scale and a zero point for each token's
/// vector, static ones a StaticGrid beside the weights. 16 bits: not rounded.
struct ActivationScheme {
  int bits = 16;     // inputs of every linear of a block. 2 … 8, or 16
  int kv_bits = 16;  // keys after RoPE and values, per token and head. 2 … 8, or 16
  bool symmetric = true;
  Granularity inputs = Granularity::kPerToken;
  bool operator==(const ActivationScheme&) const = default;

  /// Queries after RoPE, per token and head: rounded where the keys that they meet are.
  int query_bits() const { return kv_bits < 16 ? bits : 16; }
  bool rounds() const { return bits < 16 || kv_bits < 16; }
  /// Whether the inputs of linears need grids from calibration.
  bool is_static() const { return bits < 16 && inputs != Granularity::kPerToken; }
};

/// The grids of a linear's inputs that calibration found: kPerTensor one, kPerChannel K. T1 of the least and
/// the largest value seen; code = clamp(rne(x / scale) + zero_point, 0, 2^bits - 1).
struct StaticGrid {
  std::vector<float> scales, zero_points;
  bool operator==(const StaticGrid&) const = default;
};

/// Throws Corrupt, in the words of `subject`, unless there are as many grids as an input of K channels wants,
/// every scale a positive finite number and every zero point a code.
void check_static_grid(const StaticGrid& grid, const ActivationScheme& scheme, std::int64_t k,
                       std::string_view subject);

/// 2 … 8, or 16.
constexpr bool is_activation_bits(std::int64_t bits) {
  return (bits >= 2 && bits <= 8) || bits == 16;
}

/// Throws InvalidArgument, in the words of `subject`, for other bits.
void check_activation_scheme(const ActivationScheme& scheme, std::string_view subject);

/// "a8", "a8kv8", "a4kv4 asym", "a8 per_tensor"; "" where nothing is rounded.
std::string scheme_name(const ActivationScheme& scheme);

}  // namespace crumb::quant
