// The forward pass: tokens of any number of sequences through all blocks, in memory allocated once.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/cached_attention.h"
#include "kernels/lowbit.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "kernels/token_quant.h"
#include "model/config.h"
#include "quant/activation_scheme.h"
#include "runtime/kv_cache.h"
#include "runtime/memory.h"
#include "runtime/thread_pool.h"
#include "runtime/weights.h"

namespace crumb::runtime {

/// Seconds spent since the last reset, by part of a step.
struct StepTimes {
  double norms = 0;    // embedding, norms, rounding of activations, rotation, storing keys and values
  double linears = 0;  // of the blocks, with biases, SwiGLU and the residual sums
  double attention = 0;
  double head = 0;
};

/// Consecutive new tokens of one sequence, which go behind those that the cache holds.
struct Piece {
  KvCache* cache = nullptr;
  std::span<const std::int32_t> tokens;
};

/// Whether the products of block linears can be made in integers: the codes of their inputs are int8 numbers,
/// and a row has one scale. Otherwise they are made in f32, of what the codes stand for.
bool integer_products(const quant::ActivationScheme& scheme);

/// Whether a cache of this format rounds keys and values to just the scheme's grid.
bool rounds_as(kernels::KvFormat format, const quant::ActivationScheme& scheme);

/// Knows neither files nor sessions. One pass is
///
///   x = embedding[tokens]                                                                    [M, hidden]
///   each block:  q, k, v = linear(rms_norm(x));  q, k = rope(norm?(q), norm?(k));  store k, v
///                x += o_proj(attention(q, cache));   x += down_proj(silu(gate) * up of rms_norm(x))
///
/// and in OPT's: learned positions are added to x, norms are LayerNorms, nothing is rotated, and down_proj
/// reads relu(up).
///
/// q, k and v are one loop over row tiles, gate and up with their SwiGLU another; residual sums are made
/// where the product is. Where the scheme rounds, inputs of linears are rounded where they are made, q after
/// RoPE, k and v before they are stored or in being so. A row's bits depend on its sequence alone: not on M,
/// its neighbours or the number of threads.
class Forward {
 public:
  /// `most_tokens` is the largest M. Config and weights must live as long. Throws OutOfMemory.
  /// `mode` is the head's, and the blocks' too unless `scheme` rounds the inputs of linears.
  Forward(const model::ModelConfig& config, const ModelWeights& weights, kernels::LowbitMode mode,
          const quant::ActivationScheme& scheme, std::int64_t most_tokens, ThreadPool& pool);

  /// Runs all pieces, at most most_tokens() together, and appends their tokens to their caches, which have
  /// room for them. Hidden states stay until the next call.
  void run(std::span<const Piece> pieces);
  /// logits (out) [rows.size(), vocab_size] of rows of the last run(), counted through its pieces.
  void logits(std::span<const std::int64_t> rows, float* logits);

  std::int64_t most_tokens() const { return most_tokens_; }
  std::int64_t buffer_bytes() const;
  StepTimes times;

 private:
  /// Rows on their way into linears: as f32, and rounded or copied for those that are packed.
  struct Input {
    const float* x = nullptr;
    std::int64_t m = 0, k = 0;
    bool prepared = false;
    kernels::LowbitActivations packed;
    int bits = 16;                                // below 16: rounded
    const quant::StaticGrid* channels = nullptr;  // a grid for each channel
    std::optional<quant::TokenGrid> fixed;        // or one for all rows; neither: each row's own
    float* rounded =
        nullptr;  // then x, for linears of floats among those that read it, which is rounded there
  };
  /// Of what these linears of a block read: `x` may be overwritten.
  Input input_of(float* x, std::int64_t m, const BlockWeights& block,
                 std::initializer_list<model::LinearRole> roles);
  Input head_input(const float* x, std::int64_t m);
  Input packed_input(const float* x, std::int64_t m, kernels::LowbitMode mode,
                     std::span<const Linear* const> linears);
  void prepare(const Input& input, std::int64_t begin, std::int64_t end) const;
  /// y[m][n] for the rows n of tiles [begin, end), bias included; rows of y are ldy apart.
  void multiply(const Linear& linear, const Input& input, std::int64_t begin, std::int64_t end, float* y,
                std::int64_t ldy) const;
  void norm_rows(const float* x, const Norm& norm, std::int64_t begin, std::int64_t end, float* y);
  template <class Body>
  void for_rows(std::int64_t rows, const Body& body);
  /// x_ += linear(input).
  void add_product(const Linear& linear, const Input& input);

  void embed(std::span<const Piece> pieces);
  void attention_half(const BlockWeights& weights, std::int64_t block, std::span<const Piece> pieces,
                      std::int64_t m);
  void mlp_half(const BlockWeights& weights, std::int64_t m);
  /// Rounds a row's queries and, unless the cache does it, its keys and values, and stores these.
  void store_row(std::int64_t block, const KvCache& cache, std::int64_t position, float* q, float* k,
                 float* v) const;
  void attend(std::int64_t block, std::span<const Piece> pieces);
  void grow_rope(std::int64_t positions);

  const model::ModelConfig& config_;
  const ModelWeights& weights_;
  kernels::LowbitMode mode_, block_mode_;
  quant::ActivationScheme scheme_;
  std::int64_t most_tokens_, q_width_, kv_width_;
  ThreadPool& pool_;

  // Chosen once.
  const kernels::LowbitFunctions* lowbit_;
  const kernels::TokenQuantFunctions* token_quant_;
  const kernels::RmsNormFunctions* rms_norm_;
  const kernels::RopeFunctions* rope_;
  const kernels::SwigluFunctions* swiglu_;

  model::RopeFrequencies frequencies_;
  std::int64_t rope_positions_ = 0;
  std::vector<float> cos_, sin_;  // [rope_positions_, head_dim / 2]

  std::vector<std::int64_t> positions_;  // of each row
  std::vector<std::int64_t> piece_of_;   // of each row
  Memory memory_;
  float *x_, *normed_, *qkv_, *attended_, *gate_, *up_, *product_, *rstd_;
  std::span<std::byte> activations_;
  std::vector<float*> attention_workspaces_;
};

}  // namespace crumb::runtime
