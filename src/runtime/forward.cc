#include "runtime/forward.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/check.h"
#include "base/str.h"
#include "kernels/dense_linear.h"
#include "kernels/layer_norm.h"
#include "model/rope_table.h"

namespace crumb::runtime {
namespace {

using model::LinearRole;
constexpr std::int64_t kTile = kernels::kLowbitTileRows;

/// Rows below which a loop over rows is shorter than waking threads, and multiply-adds below which attention
/// is.
constexpr std::int64_t kFewRows = 4;
constexpr std::int64_t kLittleAttention = 1 << 14;

class Timer {
 public:
  explicit Timer(double& sum) : sum_(sum), start_(Clock::now()) {}
  ~Timer() { sum_ += std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  double& sum_;
  Clock::time_point start_;
};

std::size_t rounded(std::int64_t bytes) {
  return static_cast<std::size_t>((bytes + 63) / 64 * 64);
}

}  // namespace

bool rounds_as(kernels::KvFormat format, const quant::ActivationScheme& scheme) {
  return scheme.symmetric ? scheme.kv_bits == 8 && format == kernels::KvFormat::kInt8
                          : scheme.kv_bits == 4 && format == kernels::KvFormat::kInt4;
}

bool integer_products(const quant::ActivationScheme& scheme) {
  return scheme.bits == 16 || (quant::fits_int8(scheme.bits, scheme.symmetric) &&
                               scheme.inputs != quant::Granularity::kPerChannel);
}

Forward::Forward(const model::ModelConfig& config, const ModelWeights& weights, kernels::LowbitMode mode,
                 const quant::ActivationScheme& scheme, std::int64_t most_tokens, ThreadPool& pool)
    : config_(config),
      weights_(weights),
      mode_(mode),
      block_mode_(integer_products(scheme) ? mode : kernels::LowbitMode::kExact),
      scheme_(scheme),
      most_tokens_(most_tokens),
      q_width_(config.num_attention_heads * config.head_dim),
      kv_width_(config.num_key_value_heads * config.head_dim),
      pool_(pool),
      lowbit_(kernels::lowbit_variant().run),
      token_quant_(kernels::choose(kernels::token_quant_variants()).run),
      rms_norm_(kernels::choose(kernels::rms_norm_variants()).run),
      rope_(kernels::choose(kernels::rope_variants()).run),
      swiglu_(kernels::choose(kernels::swiglu_variants()).run),
      frequencies_(config.positions == model::PositionKind::kRope ? model::rope_frequencies(config)
                                                                  : model::RopeFrequencies{}) {
  CRUMB_CHECK(most_tokens > 0);
  std::int64_t activation_bytes = 0;
  const auto count = [&](const Linear& linear, kernels::LowbitMode mode) {
    if (!linear.is_lowbit) return;
    activation_bytes = std::max(
        activation_bytes,
        kernels::lowbit_activation_bytes(most_tokens, linear.k, linear.lowbit.shape.group_size, mode));
  };
  for (const BlockWeights& block : weights.blocks)
    for (const Linear& linear : block.linears) count(linear, block_mode_);
  count(weights.head, mode_);

  const std::int64_t m = most_tokens, h = config.hidden_size, f = config.intermediate_size;
  const std::int64_t workspace = kernels::cached_attention_workspace_floats(config.head_dim);
  const std::int64_t floats[] = {m * h, m * h, m * (q_width_ + 2 * kv_width_), m * q_width_, m * f, m * f,
                                 m * h, m};
  std::size_t bytes = rounded(activation_bytes);
  for (const std::int64_t size : floats) bytes += rounded(4 * size);
  bytes += static_cast<std::size_t>(pool.threads()) * rounded(4 * workspace);
  memory_ = Memory(bytes, cat("buffers for ", most_tokens, " tokens at a time"));

  std::byte* at = memory_.data();
  const auto take = [&](std::int64_t size) {
    float* place = reinterpret_cast<float*>(at);
    at += rounded(4 * size);
    return place;
  };
  float** const places[] = {&x_, &normed_, &qkv_, &attended_, &gate_, &up_, &product_, &rstd_};
  for (std::size_t i = 0; i < std::size(floats); ++i) *places[i] = take(floats[i]);
  for (int i = 0; i < pool.threads(); ++i) attention_workspaces_.push_back(take(workspace));
  activations_ = {at, rounded(activation_bytes)};
}

std::int64_t Forward::buffer_bytes() const {
  return static_cast<std::int64_t>(memory_.size() + (cos_.size() + sin_.size()) * sizeof(float));
}

template <class Body>
void Forward::for_rows(std::int64_t rows, const Body& body) {
  if (rows < kFewRows)
    body(std::int64_t{0}, rows, 0);
  else
    pool_.run(rows, body);
}

// ------------------------------------------------------------------------------------------------------------------
// Linears

Forward::Input Forward::input_of(float* x, std::int64_t m, const BlockWeights& block,
                                 std::initializer_list<LinearRole> roles) {
  std::vector<const Linear*> linears;
  for (const LinearRole role : roles) linears.push_back(&block.linear(role));
  Input input = packed_input(x, m, block_mode_, linears);
  input.bits = scheme_.bits;
  if (scheme_.is_static()) {
    const quant::StaticGrid* grid = block.input_grid(roles);
    if (grid == nullptr) {  // floats read it
      input.bits = 16;
    } else if (scheme_.inputs == quant::Granularity::kPerChannel) {
      input.channels = grid;
      input.rounded = x;
    } else {
      input.fixed = {grid->scales[0], grid->zero_points[0], static_cast<float>((1 << scheme_.bits) - 1)};
    }
  }
  for (const Linear* linear : linears)
    if (!linear->is_lowbit) input.rounded = x;
  return input;
}

Forward::Input Forward::head_input(const float* x, std::int64_t m) {
  const Linear* const head = &weights_.head;
  return packed_input(x, m, mode_, {&head, 1});
}

Forward::Input Forward::packed_input(const float* x, std::int64_t m, kernels::LowbitMode mode,
                                     std::span<const Linear* const> linears) {
  Input input;
  input.x = x;
  input.m = m;
  input.k = linears.front()->k;
  for (const Linear* linear : linears) {
    CRUMB_CHECK(linear->k == input.k);
    if (!linear->is_lowbit) continue;
    const std::int64_t group = linear->lowbit.shape.group_size;
    if (!input.prepared) input.packed = kernels::lowbit_activations(m, input.k, group, mode, activations_);
    CRUMB_CHECK(input.packed.group_size == group);
    input.prepared = true;
  }
  return input;
}

void Forward::prepare(const Input& input, std::int64_t begin, std::int64_t end) const {
  if (input.channels != nullptr) {
    kernels::fake_quant_channels(input.rounded + begin * input.k, end - begin, input.k, input.k, input.bits,
                                 *input.channels);
  }
  if (input.bits == 16 || input.channels != nullptr) {
    if (input.prepared) kernels::prepare_lowbit(*lowbit_, input.x, input.k, input.packed, begin, end);
    return;
  }
  const quant::TokenGrid* const fixed = input.fixed ? &*input.fixed : nullptr;
  if (input.prepared) {
    kernels::prepare_lowbit_tokens(*token_quant_, input.x, input.k, input.bits, scheme_.symmetric,
                                   input.packed, begin, end, fixed);
  }
  if (input.rounded != nullptr) {
    kernels::fake_quant_rows(*token_quant_, input.rounded + begin * input.k, end - begin, input.k, input.k,
                             input.bits, scheme_.symmetric, fixed);
  }
}

void Forward::multiply(const Linear& linear, const Input& input, std::int64_t begin, std::int64_t end,
                       float* y, std::int64_t ldy) const {
  const std::int64_t first = begin * kTile, last = std::min(end * kTile, linear.n);
  if (linear.is_lowbit)
    kernels::lowbit_multiply(*lowbit_, linear.lowbit, input.packed, begin, end, y, ldy);
  else
    kernels::dense_multiply(linear.dense, input.x, input.k, input.m, first, last, y, ldy);
  if (linear.bias == nullptr) return;
  for (std::int64_t row = 0; row < input.m; ++row)
    for (std::int64_t i = first; i < last; ++i) y[row * ldy + i] += linear.bias[i];
}

void Forward::add_product(const Linear& linear, const Input& input) {
  const Timer timer(times.linears);
  pool_.run(linear.tiles(), [&](std::int64_t begin, std::int64_t end, int) {
    multiply(linear, input, begin, end, product_, linear.n);
    const std::int64_t last = std::min(end * kTile, linear.n);
    for (std::int64_t row = 0; row < input.m; ++row)
      for (std::int64_t i = begin * kTile; i < last; ++i)
        x_[row * linear.n + i] += product_[row * linear.n + i];
  });
}

// ------------------------------------------------------------------------------------------------------------------
// Everything else

void Forward::norm_rows(const float* x, const Norm& norm, std::int64_t begin, std::int64_t end, float* y) {
  const std::int64_t h = config_.hidden_size;
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  if (norm.bias != nullptr)
    kernels::layer_norm(x + begin * h, norm.weight, norm.bias, eps, end - begin, h, y + begin * h);
  else
    rms_norm_->forward(x + begin * h, norm.weight, eps, end - begin, h, y + begin * h, rstd_ + begin);
}

void Forward::grow_rope(std::int64_t positions) {
  if (positions <= rope_positions_ || config_.positions != model::PositionKind::kRope) return;
  const std::int64_t half = config_.head_dim / 2;
  const std::int64_t grown =
      std::min(std::max<std::int64_t>((positions + 1023) / 1024 * 1024, 2 * rope_positions_),
               std::max(positions, config_.max_position_embeddings));
  cos_.resize(static_cast<std::size_t>(grown * half));
  sin_.resize(cos_.size());
  model::fill_rope_table(frequencies_, rope_positions_, grown - rope_positions_,
                         cos_.data() + rope_positions_ * half, sin_.data() + rope_positions_ * half);
  rope_positions_ = grown;
}

void Forward::embed(std::span<const Piece> pieces) {
  const Timer timer(times.norms);
  const std::int64_t h = config_.hidden_size;
  const Linear& table = weights_.embedding;
  for_rows(static_cast<std::int64_t>(positions_.size()), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const Piece& piece = pieces[static_cast<std::size_t>(piece_of_[static_cast<std::size_t>(row)])];
      const std::int64_t id = piece.tokens[static_cast<std::size_t>(
          positions_[static_cast<std::size_t>(row)] - piece.cache->length())];
      if (table.is_lowbit)
        kernels::dequantize_lowbit(table.lowbit, id, id + 1, x_ + row * h);
      else
        kernels::dense_rows(table.dense, id, id + 1, x_ + row * h);
      if (config_.positions != model::PositionKind::kLearned) continue;
      const std::int64_t at = positions_[static_cast<std::size_t>(row)] + model::kLearnedPositionOffset;
      float* const position = normed_ + row * h;  // of no use yet
      kernels::dense_rows(weights_.positions.dense, at, at + 1, position);
      for (std::int64_t i = 0; i < h; ++i) x_[row * h + i] += position[i];
    }
  });
}

void Forward::store_row(std::int64_t block, const KvCache& cache, std::int64_t position, float* q, float* k,
                        float* v) const {
  const std::int64_t d = config_.head_dim, heads = config_.num_key_value_heads;
  const auto round = [&](float* x, std::int64_t rows, int bits) {
    if (bits < 16) kernels::fake_quant_rows(*token_quant_, x, rows, d, d, bits, scheme_.symmetric);
  };
  round(q, config_.num_attention_heads, scheme_.query_bits());
  kernels::KvBlock to = cache.block(block);
  if (rounds_as(to.format, scheme_)) {
    to.least_scale = quant::kMinTokenScale;
  } else {
    round(k, heads, scheme_.kv_bits);
    round(v, heads, scheme_.kv_bits);
  }
  kernels::kv_store(to, position, 1, k, v, q_width_ + 2 * kv_width_);
}

void Forward::attend(std::int64_t block, std::span<const Piece> pieces) {
  const Timer timer(times.attention);
  const std::int64_t heads = config_.num_attention_heads, width = q_width_ + 2 * kv_width_;
  const auto args_of = [&](std::size_t i, std::int64_t row) {
    const Piece& piece = pieces[i];
    return kernels::CachedAttentionArgs{
        piece.cache->block(block),
        qkv_ + row * width,
        attended_ + row * q_width_,
        width,
        q_width_,
        heads,
        piece.cache->length(),
        static_cast<std::int64_t>(piece.tokens.size()),
        config_.sliding_window,
        static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim)))};
  };
  std::int64_t items = 0, work = 0;
  for (const Piece& piece : pieces) {
    const auto count = static_cast<std::int64_t>(piece.tokens.size());
    items += kernels::cached_attention_items(args_of(static_cast<std::size_t>(&piece - pieces.data()), 0));
    work += count * (piece.cache->length() + count) * q_width_;
  }
  // The items of all pieces behind each other; a thread finds those of its range.
  const auto body = [&](std::int64_t begin, std::int64_t end, int thread) {
    std::int64_t item = 0, row = 0;
    for (std::size_t i = 0; i < pieces.size() && item < end; ++i) {
      const kernels::CachedAttentionArgs args = args_of(i, row);
      const std::int64_t own = kernels::cached_attention_items(args);
      const std::int64_t from = std::max(begin, item), to = std::min(end, item + own);
      if (from < to)
        kernels::cached_attention(args, from - item, to - item,
                                  attention_workspaces_[static_cast<std::size_t>(thread)]);
      item += own;
      row += args.tokens;
    }
  };
  if (work < kLittleAttention)
    body(0, items, 0);
  else
    pool_.run(items, body);
}

void Forward::attention_half(const BlockWeights& weights, std::int64_t block, std::span<const Piece> pieces,
                             std::int64_t m) {
  const std::int64_t d = config_.head_dim, half = d / 2, width = q_width_ + 2 * kv_width_;
  const Linear &q = weights.linear(LinearRole::kQ), &k = weights.linear(LinearRole::kK),
               &v = weights.linear(LinearRole::kV);
  const Input input = input_of(normed_, m, weights, {LinearRole::kQ, LinearRole::kK, LinearRole::kV});
  {
    const Timer timer(times.norms);
    for_rows(m, [&](std::int64_t begin, std::int64_t end, int) {
      norm_rows(x_, weights.input_norm, begin, end, normed_);
      prepare(input, begin, end);
    });
  }
  {
    const Timer timer(times.linears);
    pool_.run(q.tiles() + k.tiles() + v.tiles(), [&](std::int64_t begin, std::int64_t end, int) {
      std::int64_t first = 0;
      float* to = qkv_;
      for (const Linear* linear : {&q, &k, &v}) {
        const std::int64_t from = std::max(begin - first, std::int64_t{0}),
                           last = std::min(end - first, linear->tiles());
        if (from < last) multiply(*linear, input, from, last, to, width);
        first += linear->tiles();
        to += linear->n;
      }
    });
  }
  {
    const Timer timer(times.norms);
    for_rows(m, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t row = begin; row < end; ++row) {
        float *const to_q = qkv_ + row * width, *const to_k = to_q + q_width_, *const to_v = to_k + kv_width_;
        const auto eps = static_cast<float>(config_.rms_norm_eps);
        if (weights.q_norm != nullptr) {  // per head, before RoPE
          float unused;
          for (std::int64_t head = 0; head < config_.num_attention_heads; ++head)
            rms_norm_->forward(to_q + head * d, weights.q_norm, eps, 1, d, to_q + head * d, &unused);
          for (std::int64_t head = 0; head < config_.num_key_value_heads; ++head)
            rms_norm_->forward(to_k + head * d, weights.k_norm, eps, 1, d, to_k + head * d, &unused);
        }
        const std::int64_t position = positions_[static_cast<std::size_t>(row)];
        // Queries and keys lie side by side: one rotation of all their heads.
        if (config_.positions == model::PositionKind::kRope)
          rope_->rotate({to_q, cos_.data() + position * half, sin_.data() + position * half, to_q, 1, 1,
                         config_.num_attention_heads + config_.num_key_value_heads, d, d, width, width},
                        1.0f, 0, 1);
        const Piece& piece = pieces[static_cast<std::size_t>(piece_of_[static_cast<std::size_t>(row)])];
        store_row(block, *piece.cache, position, to_q, to_k, to_v);
      }
    });
  }
  attend(block, pieces);
  const Linear& o = weights.linear(LinearRole::kO);
  const Input attended = input_of(attended_, m, weights, {LinearRole::kO});
  {
    const Timer timer(times.norms);
    for_rows(m, [&](std::int64_t begin, std::int64_t end, int) { prepare(attended, begin, end); });
  }
  add_product(o, attended);
}

void Forward::mlp_half(const BlockWeights& weights, std::int64_t m) {
  const std::int64_t f = config_.intermediate_size;
  const bool gated = config_.mlp == model::MlpKind::kSwiglu;
  const Linear &gate = weights.linear(LinearRole::kGate), &up = weights.linear(LinearRole::kUp),
               &down = weights.linear(LinearRole::kDown);
  const Input input = gated ? input_of(normed_, m, weights, {LinearRole::kGate, LinearRole::kUp})
                            : input_of(normed_, m, weights, {LinearRole::kUp});
  {
    const Timer timer(times.norms);
    for_rows(m, [&](std::int64_t begin, std::int64_t end, int) {
      norm_rows(x_, weights.post_attention_norm, begin, end, normed_);
      prepare(input, begin, end);
    });
  }
  {
    const Timer timer(times.linears);
    pool_.run(up.tiles(), [&](std::int64_t begin, std::int64_t end, int) {
      const std::int64_t first = begin * kTile, count = std::min(end * kTile, f) - first;
      if (!gated) {
        multiply(up, input, begin, end, gate_, f);
        for (std::int64_t row = 0; row < m; ++row) {
          float* const y = gate_ + row * f + first;
          for (std::int64_t i = 0; i < count; ++i) y[i] = std::max(y[i], 0.0f);
        }
        return;
      }
      multiply(gate, input, begin, end, gate_, f);
      multiply(up, input, begin, end, up_, f);
      for (std::int64_t row = 0; row < m; ++row)
        swiglu_->forward(gate_ + row * f + first, up_ + row * f + first, count, gate_ + row * f + first);
    });
  }
  const Input product = input_of(gate_, m, weights, {LinearRole::kDown});
  {
    const Timer timer(times.norms);
    for_rows(m, [&](std::int64_t begin, std::int64_t end, int) { prepare(product, begin, end); });
  }
  add_product(down, product);
}

void Forward::run(std::span<const Piece> pieces) {
  positions_.clear();
  piece_of_.clear();
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::int64_t first = pieces[i].cache->length(),
                       count = static_cast<std::int64_t>(pieces[i].tokens.size());
    CRUMB_CHECK(first + count <= pieces[i].cache->capacity());
    for (std::int64_t t = 0; t < count; ++t) {
      positions_.push_back(first + t);
      piece_of_.push_back(static_cast<std::int64_t>(i));
    }
    longest = std::max(longest, first + count);
  }
  const auto m = static_cast<std::int64_t>(positions_.size());
  CRUMB_CHECK(m > 0 && m <= most_tokens_);
  grow_rope(longest);
  embed(pieces);
  for (std::int64_t block = 0; block < config_.num_hidden_layers; ++block) {
    const BlockWeights& weights = weights_.blocks[static_cast<std::size_t>(block)];
    attention_half(weights, block, pieces, m);
    mlp_half(weights, m);
  }
  for (const Piece& piece : pieces) piece.cache->append(piece.tokens);
}

void Forward::logits(std::span<const std::int64_t> rows, float* logits) {
  const Timer timer(times.head);
  const std::int64_t h = config_.hidden_size, count = static_cast<std::int64_t>(rows.size());
  CRUMB_CHECK(count <= most_tokens_);
  // The rows wanted, in front of each other, normed in place.
  const Input input = head_input(normed_, count);
  for_rows(count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* row = x_ + rows[static_cast<std::size_t>(i)] * h;
      std::copy(row, row + h, normed_ + i * h);
    }
    norm_rows(normed_, weights_.final_norm, begin, end, normed_);
    prepare(input, begin, end);
  });
  pool_.run(weights_.head.tiles(), [&](std::int64_t begin, std::int64_t end, int) {
    multiply(weights_.head, input, begin, end, logits, weights_.head.n);
  });
}

}  // namespace crumb::runtime
