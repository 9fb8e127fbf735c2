// Where a decoder block can be rescaled without changing what it computes: pairs of a producer, which is
// divided, and consumers, which are multiplied. OmniQuant trains the factors, SmoothQuant and AWQ choose
// them.
#pragma once
#include <string_view>
#include <vector>

#include "nn/decoder_block.h"

namespace crumb::methods {

/// In the order in which several are applied to one block.
enum class Site {
  kAttentionInput,  // input_layernorm -> q, k, v
  kMlpInput,        // post_attention_layernorm -> gate, up
  kValueOutput,     // v -> o: softmax rows sum to 1, so it passes the attention
  kQueryKey,        // q, k: the factors cancel in q . k
  kUpDown           // up -> down: silu(gate) * up is linear in up; relu(up) only for positive factors
};
inline constexpr Site kSites[] = {Site::kAttentionInput, Site::kMlpInput, Site::kValueOutput, Site::kQueryKey,
                                  Site::kUpDown};
/// "input_layernorm -> q, k, v"
std::string_view to_string(Site site) noexcept;

/// Which channels share a factor at kValueOutput and kQueryKey.
enum class Tying {
  kExact,   // as many as the block's structure asks for, so that its outputs stay: query heads of one
            // key/value head; at kQueryKey also the two channels of a RoPE pair
  kUntied,  // none, as OmniQuant's code has it: changes the outputs at kQueryKey where there is RoPE
};

/// One site of blocks of one configuration.
struct TransformSite {
  Site site = Site::kAttentionInput;
  std::vector<model::LinearRole> consumers;  // whose columns are multiplied (kQueryKey: k, whose rows are)
  model::LinearRole representative = model::LinearRole::kQ;  // of the consumers, in OmniQuant's code
  std::size_t input =
      0;  // the consumers' input in DecoderBlock::LinearInputs (kQueryKey: the block's q input)
  std::int64_t factors = 0;  // free factors, F
  /// Factor of each channel of the producer's output and of the consumers' input, i64; undefined: channel c
  /// has factor c. kQueryKey: producer q rows, consumer k rows (of q_norm and k_norm weights where there are
  /// those).
  at::Tensor producer_index, consumer_index;
  bool admits_shift = false;  // x~ = (x - d) / s is exact with d != 0
};

/// Throws Unsupported, with the reason, where this structure does not admit the site with this tying.
TransformSite transform_site(const model::ModelConfig& config, Site site, Tying tying);

/// factors [F] -> one per channel. Differentiable.
at::Tensor per_channel(const at::Tensor& factors, const at::Tensor& index);
/// Channels of the consumers' input [K] -> [F], the largest of those that share a factor.
at::Tensor largest_per_factor(const TransformSite& site, const at::Tensor& channels);
/// max over output rows (of all `linears` of `block`) of |W[:, c]|, [K].
at::Tensor column_abs_max(const nn::DecoderBlock& block, const std::vector<model::LinearRole>& linears);

/// A linear y = x W^T + b whose input becomes (x - d) / s:   W~[:, c] = W[:, c] s[c],   b~ = b + W d.
/// scale, shift [K]; an undefined shift is 0. Differentiable; `linear` must be kFloat.
void fold_into_input(nn::QuantLinear& linear, const at::Tensor& scale, const at::Tensor& shift);
/// A linear whose output becomes (y - d) / s:   W~[n, :] = W[n, :] / s[n],   b~ = (b - d) / s.   scale, shift
/// [N].
void fold_into_output(nn::QuantLinear& linear, const at::Tensor& scale, const at::Tensor& shift);

/// Transforms a float block: norms and linears of the site are replaced by functions of the old ones, of
/// `scale` [F] (no 0) and of `shift` [F] or undefined. OmniQuant, arXiv:2308.13137 eq. (3) to (5); a created
/// norm bias is -d / s. Differentiable in scale and shift. CRUMB_CHECKs that the site admits a defined shift.
void apply_transform(nn::DecoderBlock& block, const TransformSite& site, const at::Tensor& scale,
                     const at::Tensor& shift);

}  // namespace crumb::methods
