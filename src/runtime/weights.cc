#include "runtime/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "base/log.h"
#include "base/parallel_for.h"  // SerialLoops
#include "quant/affine.h"
#include "quant/restate.h"

namespace crumb::runtime {
namespace {

using model::LinearRole;
using Kind = ImageSection::Kind;

constexpr std::size_t kAlignment = kernels::kLowbitAlignment;

class Planner {
 public:
  Planner(const formats::Checkpoint& checkpoint, const ImageOptions& options)
      : checkpoint_(checkpoint), options_(options) {}

  void floats(const std::string& name) {
    ImageSection s{name, Kind::kFloats, 1, 1, {}, {}, 0, 0};
    for (const std::int64_t dim : checkpoint_.shape(name)) s.n *= dim;
    s.bytes = static_cast<std::size_t>(s.n) * sizeof(float);
    add(std::move(s));
  }

  /// Weight, and bias where the family has one.
  void norm(const std::string& name) {
    floats(name + ".weight");
    if (checkpoint_.config().norm == model::NormKind::kLayer) floats(name + ".bias");
  }

  void positions() {
    if (checkpoint_.config().positions == model::PositionKind::kLearned)
      dense(std::string(model::kPositionsName));
  }

  /// Linears that read the same input share its rounded activations, which are cut at the ends of groups: all
  /// of them get the largest group that divides each one's, and theirs are split.
  void linears(std::int64_t block, std::initializer_list<LinearRole> roles) {
    std::int64_t group = 0;
    std::vector<bool> fits;  // looks at every scale where the file does not hold binary16
    for (const LinearRole role : roles) {
      const std::string name = model::linear_name(block, role);
      const std::optional<quant::AffineSpec> spec =
          checkpoint_.has(name + ".weight") ? checkpoint_.grid_of(name + ".weight") : packed_spec_of(name);
      fits.push_back(fits_kernels(name));
      if (spec && fits.back()) group = std::gcd(group, spec->group_of(shape_of(name).k));
    }
    auto fit = fits.begin();
    for (const LinearRole role : roles) {
      const std::string name = model::linear_name(block, role);
      const bool fits_here = *fit++;
      if (checkpoint_.has(name + ".weight")) {
        stored_matrix(name + ".weight", group);
      } else if (!fits_here) {
        decoded(name);
      } else {
        const auto [n, k] = shape_of(name);
        quant::AffineSpec spec = packed_spec_of(name);
        spec.group_size = group;
        lowbit(name, n, k, spec);
      }
    }
  }

  /// Embedding and head.
  void outer_matrix(const std::string& name) {
    if (options_.head_bits == 0) {
      stored_matrix(name);
      return;
    }
    const std::vector<std::int64_t> shape = checkpoint_.shape(name);
    const std::int64_t k = shape[1];
    lowbit(name, shape[0], k, head_spec(options_.head_bits, k));
  }

  ImagePlan finish() {
    if (decoded_ > 0) {
      log::warn("[runtime.weights] ", checkpoint_.path().string(), ": the scales of ", decoded_,
                " linears are no binary16 numbers, which the kernels want; these run as ",
                options_.exact_floats ? "f32" : "f16",
                ", larger and slower; crumb import --requantize rounds the scales");
    }
    return std::move(plan_);
  }

 private:
  model::LinearShape shape_of(const std::string& name) const {
    const std::string_view inside =
        std::string_view(name).substr(model::block_prefix(model::block_of(name)).size());
    for (const LinearRole role : model::linear_roles(checkpoint_.config()))
      if (inside == model::hf_name(role)) return model::linear_shape(checkpoint_.config(), role);
    CRUMB_CHECK(false);
  }

  /// The kernels' layout keeps scales as binary16.
  bool fits_kernels(const std::string& linear) const {
    return checkpoint_.has(linear + ".weight") || checkpoint_.scales_fit_f16(linear);
  }

  /// Codes that run as floats.
  void decoded(const std::string& linear) {
    const auto [n, k] = shape_of(linear);
    const auto type = options_.exact_floats ? kernels::DenseType::kF32 : kernels::DenseType::kF16;
    ImageSection s{linear, Kind::kDense, n, k, type, {}, 0, 0};
    s.bytes = static_cast<std::size_t>(n * k * kernels::dense_element_bytes(type));
    add(std::move(s));
    ++decoded_;
  }

  quant::AffineSpec packed_spec_of(const std::string& linear) const {
    const std::optional<quant::AffineSpec> spec = checkpoint_.packed_spec_of(linear);
    if (!spec)
      fail(ErrorKind::kNotFound, "runtime.weights", linear, ": neither floats nor codes in the checkpoint");
    return *spec;
  }

  /// As the checkpoint has it: codes where it holds codes of a grid, in groups of `group` if that is not 0,
  /// else floats.
  void stored_matrix(const std::string& name, std::int64_t group = 0) {
    if (std::optional<quant::AffineSpec> spec = checkpoint_.grid_of(name)) {
      const std::vector<std::int64_t> shape = checkpoint_.shape(name);
      if (group != 0) spec->group_size = group;
      lowbit(name, shape[0], shape[1], *spec);
    } else {
      dense(name);
    }
  }

  void dense(const std::string& name) {
    const std::vector<std::int64_t> shape = checkpoint_.shape(name);
    ImageSection s{name, Kind::kDense, shape[0], shape[1], kernels::DenseType::kF32, {}, 0, 0};
    const DType stored = checkpoint_.float_dtype(name);
    const bool rounds = stored == DType::kF16 && checkpoint_.kind() == formats::CheckpointKind::kGguf;
    if (stored == DType::kBF16) s.type = kernels::DenseType::kBf16;
    if (stored == DType::kF16 && !(rounds && options_.exact_floats)) s.type = kernels::DenseType::kF16;
    s.bytes = static_cast<std::size_t>(s.n * s.k * kernels::dense_element_bytes(s.type));
    add(std::move(s));
  }

  void lowbit(const std::string& name, std::int64_t n, std::int64_t k, const quant::AffineSpec& spec) {
    ImageSection s{name, Kind::kLowbit, n, k, {}, kernels::lowbit_shape(n, k, spec, name), 0, 0};
    s.bytes = static_cast<std::size_t>(kernels::lowbit_bytes(s.shape));
    add(std::move(s));
  }

  void add(ImageSection section) {
    section.offset = plan_.bytes;
    plan_.bytes += (section.bytes + kAlignment - 1) / kAlignment * kAlignment;
    plan_.sections.push_back(std::move(section));
  }

  const formats::Checkpoint& checkpoint_;
  ImageOptions options_;
  ImagePlan plan_;
  int decoded_ = 0;
};

quant::AffineSpec spec_of(const kernels::LowbitShape& shape) {
  return {shape.bits, shape.group_size, shape.grid};
}

void fill_section(const ImageSection& s, const formats::Checkpoint& checkpoint, std::byte* to) {
  if (s.kind == Kind::kLowbit) {
    std::optional<quant::QuantizedLinear> codes;
    const auto same_codes = [&](const std::optional<quant::AffineSpec>& grid) {
      return grid && grid->bits == s.shape.bits && grid->grid == s.shape.grid &&
             grid->group_of(s.k) % s.shape.group_size == 0;
    };
    if (checkpoint.has(s.name) && same_codes(checkpoint.grid_of(s.name))) {
      codes = checkpoint.read_codes(s.name);
    } else if (checkpoint.has(s.name)) {
      codes = quantize_matrix(checkpoint.read_f32(s.name), s.n, s.k, spec_of(s.shape));
    } else {
      codes = checkpoint.read_packed(s.name);
      if (!codes) fail(ErrorKind::kNotFound, "runtime.weights", s.name, ": no codes in the checkpoint");
    }
    codes = quant::split_groups(std::move(*codes), s.shape.group_size);
    kernels::pack_lowbit(*codes, s.shape, 0, s.shape.tiles(), to, s.name);
    return;
  }
  std::vector<float> values;
  if (checkpoint.has(s.name)) {
    values = checkpoint.read_f32(s.name);
  } else {
    const std::optional<quant::QuantizedLinear> codes = checkpoint.read_packed(s.name);
    if (!codes) fail(ErrorKind::kNotFound, "runtime.weights", s.name, ": no codes in the checkpoint");
    values = quant::dequantize(*codes);
  }
  CRUMB_CHECK(static_cast<std::int64_t>(values.size()) == s.n * s.k);
  if (s.kind == Kind::kFloats || s.type == kernels::DenseType::kF32) {
    std::memcpy(to, values.data(), values.size() * sizeof(float));
    return;
  }
  auto* halves = reinterpret_cast<std::uint16_t*>(to);
  for (std::size_t i = 0; i < values.size(); ++i) {
    halves[i] = s.type == kernels::DenseType::kF16 ? float_to_f16(values[i]) : float_to_bf16(values[i]);
    if (s.type == kernels::DenseType::kF16 && !std::isfinite(f16_to_float(halves[i]))) {
      fail(ErrorKind::kNumerics, "runtime.weights", s.name, ": weight ", i, " is ", values[i],
           ", beyond f16's 65504; run it with --exact");
    }
  }
}

}  // namespace

quant::AffineSpec head_spec(int bits, std::int64_t k) {
  return {bits, k % 64 == 0 ? 64 : k % 32 == 0 ? 32 : -1, quant::Grid::kAsym};
}

const ImageSection* ImagePlan::find(std::string_view name) const {
  const auto found = std::find_if(sections.begin(), sections.end(),
                                  [&](const ImageSection& section) { return section.name == name; });
  return found == sections.end() ? nullptr : &*found;
}

std::string ImagePlan::describe() const {
  std::string text;
  for (const ImageSection& s : sections) {
    text += cat(s.name, " [", s.n, ", ", s.k, "] at ", s.offset, ": ");
    if (s.kind == Kind::kLowbit)
      text += cat("w", s.shape.bits, "g", s.shape.group_size, " ", to_string(s.shape.grid), "\n");
    else
      text += cat(to_string(s.type), "\n");
  }
  return text;
}

ImagePlan plan_image(const formats::Checkpoint& checkpoint, const ImageOptions& options) {
  if (options.head_bits != 0 && options.head_bits != 4 && options.head_bits != 6 && options.head_bits != 8) {
    fail(ErrorKind::kInvalidArgument, "runtime.weights", "head of ", options.head_bits,
         " bits: not supported; want 8, 6, 4, or 0 for the checkpoint's floats");
  }
  const model::ModelConfig& config = checkpoint.config();
  Planner planner(checkpoint, options);
  planner.outer_matrix(std::string(model::kEmbeddingName));
  planner.positions();
  for (std::int64_t block = 0; block < config.num_hidden_layers; ++block) {
    const std::string prefix = model::block_prefix(block);
    const auto bias = [&](LinearRole role) {
      if (model::has_bias(config, role)) planner.floats(model::linear_name(block, role) + ".bias");
    };
    planner.norm(prefix + "input_layernorm");
    planner.linears(block, {LinearRole::kQ, LinearRole::kK, LinearRole::kV});
    for (const LinearRole role : {LinearRole::kQ, LinearRole::kK, LinearRole::kV}) bias(role);
    if (config.qk_norm) {
      planner.floats(prefix + "self_attn.q_norm.weight");
      planner.floats(prefix + "self_attn.k_norm.weight");
    }
    planner.linears(block, {LinearRole::kO});
    bias(LinearRole::kO);
    planner.norm(prefix + "post_attention_layernorm");
    if (config.mlp == model::MlpKind::kSwiglu) {
      planner.linears(block, {LinearRole::kGate, LinearRole::kUp});
      bias(LinearRole::kGate);
    } else {
      planner.linears(block, {LinearRole::kUp});
    }
    bias(LinearRole::kUp);
    planner.linears(block, {LinearRole::kDown});
    bias(LinearRole::kDown);
  }
  planner.norm("model.norm");
  if (!config.tie_word_embeddings) planner.outer_matrix(std::string(model::kHeadName));
  return planner.finish();
}

void fill_image(const ImagePlan& plan, const formats::Checkpoint& checkpoint, ThreadPool& pool,
                std::span<std::byte> memory) {
  CRUMB_CHECK(memory.size() == plan.bytes);
  // A thread takes the next section as it becomes free: sections differ in size, and their bytes do not
  // depend on who writes them.
  std::atomic<std::size_t> next{0};
  pool.run(pool.threads(), [&](std::int64_t, std::int64_t, int) {
    const SerialLoops serial;
    for (std::size_t i = next++; i < plan.sections.size(); i = next++)
      fill_section(plan.sections[i], checkpoint, memory.data() + plan.sections[i].offset);
  });
}

std::int64_t Linear::bytes() const {
  return is_lowbit ? kernels::lowbit_bytes(lowbit.shape) : n * k * kernels::dense_element_bytes(dense.type);
}

const quant::StaticGrid* BlockWeights::input_grid(std::initializer_list<LinearRole> roles) const {
  for (const LinearRole role : roles)
    if (const auto& grid = input_grids[static_cast<std::size_t>(role)]) return &*grid;
  return nullptr;
}

void load_input_grids(const formats::Checkpoint& checkpoint, ModelWeights& weights) {
  for (std::size_t i = 0; i < weights.blocks.size(); ++i) {
    for (const LinearRole role : model::linear_roles(checkpoint.config()))
      weights.blocks[i].input_grids[static_cast<std::size_t>(role)] =
          checkpoint.input_grid(model::linear_name(static_cast<std::int64_t>(i), role));
  }
}

ModelWeights bind_weights(const ImagePlan& plan, const model::ModelConfig& config, const std::byte* memory) {
  const auto at = [&](const std::string& name) -> const ImageSection& {
    const ImageSection* section = plan.find(name);
    CRUMB_CHECK(section != nullptr);
    return *section;
  };
  const auto floats = [&](const std::string& name) {
    return reinterpret_cast<const float*>(memory + at(name).offset);
  };
  const auto matrix = [&](const std::string& name) {
    const ImageSection& s = at(name);
    Linear linear{s.n, s.k, s.kind == Kind::kLowbit, {}, {}, nullptr};
    if (linear.is_lowbit)
      linear.lowbit = kernels::lowbit_matrix(s.shape, {memory + s.offset, s.bytes},
                                             kernels::kLowbitLayoutVersion, s.name);
    else
      linear.dense = {s.type, s.n, s.k, memory + s.offset};
    return linear;
  };
  const auto norm = [&](const std::string& name) {
    return Norm{floats(name + ".weight"),
                config.norm == model::NormKind::kLayer ? floats(name + ".bias") : nullptr};
  };
  ModelWeights weights;
  weights.embedding = matrix(std::string(model::kEmbeddingName));
  weights.head = config.tie_word_embeddings ? weights.embedding : matrix(std::string(model::kHeadName));
  if (config.positions == model::PositionKind::kLearned)
    weights.positions = matrix(std::string(model::kPositionsName));
  weights.final_norm = norm("model.norm");
  for (std::int64_t block = 0; block < config.num_hidden_layers; ++block) {
    const std::string prefix = model::block_prefix(block);
    BlockWeights& b = weights.blocks.emplace_back();
    for (const LinearRole role : model::linear_roles(config)) {
      const std::string name = model::linear_name(block, role);
      Linear& linear = b.linears[static_cast<std::size_t>(role)];
      linear = matrix(plan.find(name) != nullptr ? name : name + ".weight");
      if (model::has_bias(config, role)) linear.bias = floats(name + ".bias");
    }
    b.input_norm = norm(prefix + "input_layernorm");
    b.post_attention_norm = norm(prefix + "post_attention_layernorm");
    if (config.qk_norm) {
      b.q_norm = floats(prefix + "self_attn.q_norm.weight");
      b.k_norm = floats(prefix + "self_attn.k_norm.weight");
    }
  }
  return weights;
}

quant::QuantizedLinear quantize_matrix(std::span<const float> w, std::int64_t n, std::int64_t k,
                                       const quant::AffineSpec& spec) {
  const std::int64_t group = spec.group_of(k), groups = n * spec.groups(k);
  quant::QuantizedLinear out{n, k, spec, {}, {}, {}};
  out.codes.resize(w.size());
  out.scales.resize(static_cast<std::size_t>(groups));
  out.zero_points.resize(out.scales.size());
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::span<const float> x =
        w.subspan(static_cast<std::size_t>(g * group), static_cast<std::size_t>(group));
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    const float least = std::min(*low, 0.0f), most = std::max(*high, 0.0f);
    // The smallest binary16 number keeps groups of zeros (and of next to nothing) divisible.
    const float scale =
        std::max(round_to_f16((most - least) / static_cast<float>(spec.max_code())), 0x1p-24f);
    const float zero = std::clamp(std::nearbyint(-least / scale), 0.0f, static_cast<float>(spec.max_code()));
    out.scales[static_cast<std::size_t>(g)] = scale;
    out.zero_points[static_cast<std::size_t>(g)] = static_cast<std::uint8_t>(zero);
    for (std::int64_t i = 0; i < group; ++i) {
      out.codes[static_cast<std::size_t>(g * group + i)] = static_cast<std::uint8_t>(
          quant::quantize_one(x[static_cast<std::size_t>(i)], scale, zero, spec.max_code()));
    }
  }
  return out;
}

}  // namespace crumb::runtime
