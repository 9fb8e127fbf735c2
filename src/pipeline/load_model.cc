#include "pipeline/load_model.h"

#include "base/error.h"
#include "base/interrupt.h"
#include "base/memory_info.h"
#include "nn/host_memory.h"
#include "nn/torch_language_model.h"
#include "pipeline/input_grids.h"

namespace crumb::pipeline {

using at::Tensor;

Tensor tensor_from(std::vector<float> values, at::IntArrayRef shape) {
  auto* owner = new std::vector<float>(std::move(values));
  return at::from_blob(
      owner->data(), shape, [owner](void*) { delete owner; }, at::TensorOptions(at::kFloat));
}

namespace {

at::ScalarType stored_type(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    default:
      return at::kFloat;
  }
}

Tensor read(const formats::Checkpoint& checkpoint, const std::string& name, const at::Device& device,
            bool compact) {
  Tensor value = tensor_from(checkpoint.read_f32(name), checkpoint.shape(name));
  return value.to(device, compact ? stored_type(checkpoint.float_dtype(name)) : at::kFloat);
}

nn::DecoderBlock load_block(const formats::Checkpoint& checkpoint, std::int64_t index,
                            const at::Device& device, bool compact) {
  nn::DecoderBlock block = load_bias_only_block(checkpoint, index, device);
  for (const model::LinearRole role : block.roles()) {
    throw_if_interrupted("pipeline.load_model");
    const std::string name = model::linear_name(index, role);
    nn::QuantLinear& linear = block.linear(role);
    if (const auto packed = checkpoint.read_packed(name)) {
      compact ? linear.set_packed(*packed, device) : linear.set_dequantized(*packed, device);
    } else {
      const model::LinearShape shape = model::linear_shape(checkpoint.config(), role);
      linear.n = shape.n;
      linear.k = shape.k;
      linear.weight = read(checkpoint, name + ".weight", device, compact);
    }
  }
  return block;
}

InputGrids input_grids(const formats::Checkpoint& checkpoint, std::int64_t index) {
  InputGrids grids;
  for (const model::LinearRole role : model::linear_roles(checkpoint.config()))
    grids[static_cast<std::size_t>(role)] = checkpoint.input_grid(model::linear_name(index, role));
  return grids;
}

}  // namespace

nn::DecoderBlock load_float_block(const formats::Checkpoint& checkpoint, std::int64_t index,
                                  const at::Device& device) {
  return load_block(checkpoint, index, device, false);
}

nn::DecoderBlock load_bias_only_block(const formats::Checkpoint& checkpoint, std::int64_t index,
                                      const at::Device& device) {
  nn::DecoderBlock block(checkpoint.config());
  for (auto& [name, norm] : block.norms())
    *norm = read(checkpoint, model::block_prefix(index) + name, device, false);
  for (const model::LinearRole role : block.roles()) {
    const std::string bias = model::linear_name(index, role) + ".bias";
    if (checkpoint.has(bias)) block.linear(role).bias = read(checkpoint, bias, device, false);
  }
  return block;
}

nn::CausalLm load_shell(const formats::Checkpoint& checkpoint, const nn::Compute& compute,
                        const at::Device& device) {
  nn::CausalLm lm;
  lm.config = checkpoint.config();
  lm.compute = compute;
  lm.embedding = read(checkpoint, std::string(model::kEmbeddingName), device, false);
  if (lm.config.positions == model::PositionKind::kLearned)
    lm.positions = read(checkpoint, std::string(model::kPositionsName), device, false);
  lm.final_norm = read(checkpoint, std::string(model::kFinalNormName), device, false);
  if (lm.config.norm == model::NormKind::kLayer)
    lm.final_norm_bias = read(checkpoint, std::string(model::kFinalNormBiasName), device, false);
  lm.head = lm.config.tie_word_embeddings || !checkpoint.has(model::kHeadName)
                ? lm.embedding
                : read(checkpoint, std::string(model::kHeadName), device, false);
  return lm;
}

nn::CausalLm load_causal_lm(const formats::Checkpoint& checkpoint, const nn::Compute& compute,
                            const at::Device& device, Residency residency) {
  const model::ParameterCount count = model::count_parameters(checkpoint.config());
  const std::int64_t float_bytes = count.total() * 4, available = available_bytes();
  if (residency == Residency::kAuto)
    residency = float_bytes <= available / 2 ? Residency::kFloat : Residency::kCompact;
  const std::int64_t needed =
      residency == Residency::kFloat
          ? float_bytes
          : std::min(float_bytes, checkpoint.tensor_bytes() + 2 * 4 * count.embeddings);
  if (device.is_cpu() && needed > available) {
    fail(ErrorKind::kOutOfMemory, "pipeline.load_model", checkpoint.path().string(), ": needs ",
         human_bytes(static_cast<double>(needed)), "; ", human_bytes(static_cast<double>(available)),
         " are available; free memory, or evaluate a quantized copy");
  }
  nn::CausalLm lm = load_shell(checkpoint, compute, device);
  for (std::int64_t i = 0; i < lm.config.num_hidden_layers; ++i) {
    lm.blocks.push_back(load_block(checkpoint, i, device, residency == Residency::kCompact));
    if (const auto scheme = checkpoint.activation_scheme())
      lm.blocks.back().activations = activation_quants(*scheme, input_grids(checkpoint, i), device);
  }
  return lm;
}

std::unique_ptr<data::Tokenizer> open_tokenizer(const std::string& path) {
  try {
    return data::Tokenizer::open(path);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kNotFound) throw;
    return nullptr;
  }
}

LoadedModel load_model(const std::string& path, const LoadOptions& options) {
  nn::set_threads(options.threads);
  nn::use_host_memory(true);
  const at::Device device = nn::resolve_device(options.device);
  const nn::Compute compute{nn::resolve_precision(options.precision, device), device.is_cpu()};
  const auto checkpoint = formats::Checkpoint::open(path);
  LoadedModel loaded;
  loaded.description = checkpoint->describe();
  loaded.model = nn::make_language_model(
      std::make_shared<nn::CausalLm>(load_causal_lm(*checkpoint, compute, device, Residency::kAuto)));
  loaded.tokenizer = open_tokenizer(path);  // token files can be evaluated without one
  return loaded;
}

}  // namespace crumb::pipeline
