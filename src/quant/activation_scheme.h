// How a model's activations are rounded when it runs.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace crumb::quant {

/// Dynamic rounding per token (docs/math.md, T1): a scale and a zero point for each token's vector, made anew
/// in every forward pass. 16 bits: not rounded.
struct ActivationScheme {
  int bits = 16;     // inputs of every linear of a block. 2 … 8, or 16
  int kv_bits = 16;  // keys after RoPE and values, per head. 2 … 8, or 16
  bool symmetric = true;
  bool operator==(const ActivationScheme&) const = default;

  /// Queries after RoPE, per head: rounded where the keys that they meet are.
  int query_bits() const { return kv_bits < 16 ? bits : 16; }
  bool rounds() const { return bits < 16 || kv_bits < 16; }
};

/// 2 … 8, or 16.
constexpr bool is_activation_bits(std::int64_t bits) {
  return (bits >= 2 && bits <= 8) || bits == 16;
}

/// Throws InvalidArgument, in the words of `subject`, for other bits.
void check_activation_scheme(const ActivationScheme& scheme, std::string_view subject);

/// "a8", "a8kv8", "a4kv4 asym"; "" where nothing is rounded.
std::string scheme_name(const ActivationScheme& scheme);

}  // namespace crumb::quant
