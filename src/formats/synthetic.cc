#include "formats/synthetic.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/half.h"
#include "base/parallel_for.h"
#include "base/rng.h"

namespace crumb::formats {
namespace {

constexpr std::string_view kWhere = "formats.synthetic";

struct Shape {
  std::string_view name;
  std::int64_t hidden, mlp, blocks, heads, kv_heads, head_dim, vocabulary;
  bool tied;
  double rope_theta;
};
constexpr Shape kShapes[] = {{"135m", 576, 1536, 30, 9, 3, 64, 49152, true, 100000},
                             {"1b", 2048, 8192, 16, 32, 8, 64, 128256, true, 500000},
                             {"3b", 3072, 8192, 28, 24, 8, 128, 128256, true, 500000},
                             {"7b", 4096, 14336, 32, 32, 8, 128, 32000, false, 1000000}};

/// A seed of its own for each tensor.
std::uint64_t seed_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t mixed = seed;
  for (const char c : name) mixed = SplitMix64(mixed ^ static_cast<unsigned char>(c)).next();
  return mixed;
}

/// The model before it is quantized: what write_hf_gptq copies from it.
class SyntheticCheckpoint final : public Checkpoint {
 public:
  SyntheticCheckpoint(const model::ModelConfig& config, std::uint64_t seed) : config_(config), seed_(seed) {
    for (const auto& tensor : model::outer_tensors(config)) shapes_[tensor.name] = tensor.shape;
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
      for (const auto& tensor : model::block_tensors(config, i)) shapes_[tensor.name] = tensor.shape;
    }
  }

  CheckpointKind kind() const override { return CheckpointKind::kHuggingFace; }
  const std::filesystem::path& path() const override { return path_; }
  const model::ModelConfig& config() const override { return config_; }
  std::string config_json() const override { return synthetic_config_json(config_); }
  bool has(std::string_view name) const override { return shapes_.contains(std::string(name)); }
  std::vector<std::int64_t> shape(std::string_view name) const override {
    const auto found = shapes_.find(std::string(name));
    if (found == shapes_.end()) fail(ErrorKind::kNotFound, kWhere, name, ": no tensor of this model");
    return found->second;
  }
  DType float_dtype(std::string_view) const override { return DType::kF16; }
  std::vector<float> read_f32(std::string_view name) const override {
    const std::vector<std::int64_t> dims = shape(name);
    if (dims.size() == 1) return std::vector<float>(static_cast<std::size_t>(dims[0]), 1.0f);
    std::vector<float> values(static_cast<std::size_t>(dims[0] * dims[1]));
    const float spread =
        3.4641f / std::sqrt(static_cast<float>(dims[1]));  // uniform of that width: deviation K^-1/2
    parallel_for(dims[0], 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        SplitMix64 random(seed_of(seed_, name) + static_cast<std::uint64_t>(row));
        for (std::int64_t i = row * dims[1]; i < (row + 1) * dims[1]; ++i)
          values[static_cast<std::size_t>(i)] =
              (static_cast<float>(random.next() >> 40) * 0x1p-24f - 0.5f) * spread;
      }
    });
    return values;
  }
  std::optional<quant::QuantizedLinear> read_packed(std::string_view) const override { return std::nullopt; }
  std::optional<quant::AffineSpec> packed_spec() const override { return std::nullopt; }
  std::int64_t tensor_bytes() const override { return 2 * model::count_parameters(config_).total(); }
  std::string describe() const override { return "random weights"; }
  std::vector<std::filesystem::path> companion_files() const override { return {}; }

 private:
  model::ModelConfig config_;
  std::uint64_t seed_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
  std::filesystem::path path_ = "random weights";
};

quant::QuantizedLinear random_linear(const model::LinearShape& shape, const quant::AffineSpec& spec,
                                     std::uint64_t seed) {
  quant::QuantizedLinear linear;
  linear.n = shape.n;
  linear.k = shape.k;
  linear.spec = spec;
  const std::int64_t groups = spec.groups(shape.k);
  linear.codes.resize(static_cast<std::size_t>(shape.n * shape.k));
  linear.scales.resize(static_cast<std::size_t>(shape.n * groups));
  linear.zero_points.resize(linear.scales.size());
  const auto levels = static_cast<double>(spec.max_code()) + 1;
  const double code_deviation = std::sqrt((levels * levels - 1) / 12);  // of uniform codes
  const double scale = 1 / (std::sqrt(static_cast<double>(shape.k)) * code_deviation);
  const auto mask = static_cast<std::uint64_t>(spec.max_code());
  const auto middle = static_cast<std::uint8_t>(1 << (spec.bits - 1));
  parallel_for(shape.n, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      SplitMix64 random(seed + static_cast<std::uint64_t>(row) * 0x9e37);
      for (std::int64_t k = 0; k < shape.k; k += 8) {
        std::uint64_t bits = random.next();
        for (std::int64_t i = k; i < std::min(k + 8, shape.k); ++i, bits >>= 8)
          linear.codes[static_cast<std::size_t>(row * shape.k + i)] = static_cast<std::uint8_t>(bits & mask);
      }
      for (std::int64_t g = row * groups; g < (row + 1) * groups; ++g) {
        const double jitter = 0.75 + 0.5 * random.uniform();
        linear.scales[static_cast<std::size_t>(g)] =
            f16_to_float(float_to_f16(static_cast<float>(scale * jitter)));
        linear.zero_points[static_cast<std::size_t>(g)] =
            static_cast<std::uint8_t>(middle - (random.next() & 1));
      }
    }
  });
  return linear;
}

}  // namespace

std::vector<std::string> synthetic_shapes() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

model::ModelConfig synthetic_config(std::string_view name) {
  const auto found =
      std::find_if(std::begin(kShapes), std::end(kShapes), [&](const Shape& s) { return s.name == name; });
  if (found == std::end(kShapes))
    fail(ErrorKind::kNotFound, kWhere, "shape '", name, "': not known; expected one of ",
         join(synthetic_shapes(), ", "));
  model::ModelConfig c;
  c.family = "llama";
  c.hidden_size = found->hidden;
  c.intermediate_size = found->mlp;
  c.num_hidden_layers = found->blocks;
  c.num_attention_heads = found->heads;
  c.num_key_value_heads = found->kv_heads;
  c.head_dim = found->head_dim;
  c.vocab_size = found->vocabulary;
  c.max_position_embeddings = 8192;
  c.tie_word_embeddings = found->tied;
  c.rope.theta = found->rope_theta;
  c.bos_token_id = 1;
  c.eos_token_ids = {2};
  return c;
}

std::string synthetic_config_json(const model::ModelConfig& c) {
  const nlohmann::ordered_json json = {{"architectures", {"LlamaForCausalLM"}},
                                       {"model_type", "llama"},
                                       {"hidden_act", "silu"},
                                       {"hidden_size", c.hidden_size},
                                       {"intermediate_size", c.intermediate_size},
                                       {"num_hidden_layers", c.num_hidden_layers},
                                       {"num_attention_heads", c.num_attention_heads},
                                       {"num_key_value_heads", c.num_key_value_heads},
                                       {"head_dim", c.head_dim},
                                       {"vocab_size", c.vocab_size},
                                       {"max_position_embeddings", c.max_position_embeddings},
                                       {"rms_norm_eps", c.rms_norm_eps},
                                       {"rope_theta", c.rope.theta},
                                       {"tie_word_embeddings", c.tie_word_embeddings},
                                       {"attention_bias", false},
                                       {"mlp_bias", false},
                                       {"bos_token_id", c.bos_token_id},
                                       {"eos_token_id", c.eos_token_ids.front()},
                                       {"torch_dtype", "float16"}};
  return json.dump(2) + "\n";
}

HfOutputReport write_synthetic(const model::ModelConfig& config, const quant::AffineSpec& spec,
                               std::uint64_t seed, const std::filesystem::path& folder,
                               const std::optional<quant::ActivationScheme>& activations) {
  const SyntheticCheckpoint source(config, seed);
  HfOutputOptions options;
  options.spec = spec;
  options.activations = activations;
  return write_hf_gptq(source, folder, options, [&](std::int64_t block) {
    PackedBlock out;
    for (const model::LinearRole role : model::linear_roles(config)) {
      out.linears[static_cast<std::size_t>(role)] = random_linear(
          model::linear_shape(config, role), spec, seed_of(seed, model::linear_name(block, role)));
    }
    return out;
  });
}

}  // namespace crumb::formats
