// A model's weights as the kernels read them: one piece of memory, planned before it is filled.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "kernels/dense_linear.h"
#include "kernels/lowbit.h"
#include "model/family.h"
#include "runtime/thread_pool.h"

namespace crumb::runtime {

/// Rises whenever the same model would give other bytes.
inline constexpr int kImageVersion = 2;

/// The grid of an embedding or head [N, K] at 8, 6 or 4 bits: groups of 64 along K where 64 divides it, of 32
/// where that does, else whole rows.
quant::AffineSpec head_spec(int bits, std::int64_t k);

struct ImageOptions {
  /// Embedding and head: 0 keeps their floats; 8, 6 or 4 rounds them to codes of head_spec().
  int head_bits = 0;
  /// Floats of a GGUF file's block types (Q4_1 …) stay f32 instead of becoming f16.
  bool exact_floats = false;
};

/// One tensor of the image.
struct ImageSection {
  enum class Kind { kFloats, kDense, kLowbit };
  std::string name;  // Hugging Face's; a packed linear without ".weight"
  Kind kind = Kind::kFloats;
  std::int64_t n = 0, k = 0;  // kFloats: n numbers
  kernels::DenseType type = kernels::DenseType::kF32;
  kernels::LowbitShape shape;
  std::size_t offset = 0, bytes = 0;  // offset % 64 == 0
};

/// What lies where. Linears that are read together (q, k, v; gate, up) lie together.
struct ImagePlan {
  std::vector<ImageSection> sections;  // in the order of a forward pass
  std::size_t bytes = 0;
  const ImageSection* find(std::string_view name) const;
  /// One line a section; part of the key of a cache file.
  std::string describe() const;
};

/// Throws InvalidArgument for other head_bits, and as lowbit_shape().
ImagePlan plan_image(const formats::Checkpoint& checkpoint, const ImageOptions& options);

/// Reads every tensor and lays it down at its place; sections are spread over the pool's threads. Throws as
/// Checkpoint's readers and pack_lowbit().
/// memory  plan.bytes, aligned to 64
void fill_image(const ImagePlan& plan, const formats::Checkpoint& checkpoint, ThreadPool& pool,
                std::span<std::byte> memory);

/// A view on one matrix of the image, and its bias.
struct Linear {
  std::int64_t n = 0, k = 0;
  bool is_lowbit = false;
  kernels::LowbitMatrix lowbit;
  kernels::DenseMatrix dense;
  const float* bias = nullptr;

  std::int64_t tiles() const { return (n + kernels::kLowbitTileRows - 1) / kernels::kLowbitTileRows; }
  std::int64_t bytes() const;
};

/// [hidden_size] each; bias nullptr where the family's norms have none.
struct Norm {
  const float *weight = nullptr, *bias = nullptr;
};

struct BlockWeights {
  std::array<Linear, std::size(model::kLinearRoles)> linears;  // empty where the family has none
  Norm input_norm, post_attention_norm;
  const float *q_norm = nullptr, *k_norm = nullptr;  // nullptr where the family has none
  /// Of what each linear reads, where the activation scheme is static; else nullopt. Set by the engine.
  std::array<std::optional<quant::StaticGrid>, std::size(model::kLinearRoles)> input_grids;
  const Linear& linear(model::LinearRole role) const { return linears[static_cast<std::size_t>(role)]; }
  /// The one grid of what these linears read; nullptr where none has one.
  const quant::StaticGrid* input_grid(std::initializer_list<model::LinearRole> roles) const;
};

struct ModelWeights {
  Linear embedding, head;  // the same matrix when tied
  Linear positions;        // learned ones, as floats; else empty
  Norm final_norm;
  std::vector<BlockWeights> blocks;
};
/// Views on a filled image, which must live as long.
ModelWeights bind_weights(const ImagePlan& plan, const model::ModelConfig& config, const std::byte* memory);

/// Sets BlockWeights::input_grids, which no image holds. Throws as Checkpoint::input_grid.
void load_input_grids(const formats::Checkpoint& checkpoint, ModelWeights& weights);

/// A float matrix [N, K] as codes for head_bits: the least and the largest of a group and 0 are in range,
/// scales are rounded to binary16 before the codes are chosen.
quant::QuantizedLinear quantize_matrix(std::span<const float> w, std::int64_t n, std::int64_t k,
                                       const quant::AffineSpec& spec);

}  // namespace crumb::runtime
