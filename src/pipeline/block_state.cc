#include "pipeline/block_state.h"

#include "base/error.h"
#include "formats/input_grid.h"
#include "io/safetensors.h"
#include "model/family.h"
#include "pipeline/load_model.h"
#include "quant/codes.h"
#include "quant/restate.h"

namespace crumb::pipeline {

using formats::PackedBlock;
using quant::WordLayout;

namespace {

std::string linear_key(model::LinearRole role, std::string_view part) {
  return cat(model::hf_name(role), ".", part);
}

}  // namespace

void save_block_state(const std::filesystem::path& file, const PackedBlock& block) {
  std::vector<io::TensorToWrite> tensors;
  for (std::size_t i = 0; i < block.linears.size(); ++i) {
    const auto role = static_cast<model::LinearRole>(i);
    if (block.linears[i].n == 0) continue;  // the family has none
    const quant::QuantizedLinear& linear = block.linears[static_cast<std::size_t>(role)];
    const std::int64_t groups = linear.spec.groups(linear.k),
                       words = quant::packed_words(linear.k, linear.spec.bits, WordLayout::kDense);
    tensors.push_back({linear_key(role, "words"), DType::kI32, {linear.n, words}, [&linear, words] {
                         std::vector<std::uint32_t> packed(static_cast<std::size_t>(linear.n * words));
                         quant::pack_rows(linear.codes.data(), linear.n, linear.k, linear.spec.bits,
                                          packed.data());
                         return io::bytes_of(std::span<const std::uint32_t>(packed));
                       }});
    tensors.push_back({linear_key(role, "zero_points"), DType::kU8, {linear.n, groups}, [&linear] {
                         return io::bytes_of(std::span<const std::uint8_t>(linear.zero_points));
                       }});
    tensors.push_back({linear_key(role, "scales"), DType::kF32, {linear.n, groups}, [&linear] {
                         return io::bytes_of(std::span<const float>(linear.scales));
                       }});
  }
  for (const auto& [name, values] : block.floats) {
    tensors.push_back({name, DType::kF32, {static_cast<std::int64_t>(values.size())}, [&values = values] {
                         return io::bytes_of(std::span<const float>(values));
                       }});
  }
  for (std::size_t i = 0; i < block.input_grids.size(); ++i) {
    if (!block.input_grids[i]) continue;
    for (auto& tensor :
         formats::input_grid_tensors(std::string(model::hf_name(static_cast<model::LinearRole>(i))),
                                     *block.input_grids[i], /*symmetric=*/false))
      tensors.push_back(std::move(tensor));
  }
  io::write_safetensors_atomically(file, std::move(tensors), {{"format", "crumb block state 1"}});
}

PackedBlock load_block_state(const std::filesystem::path& file, const model::ModelConfig& config,
                             const quant::AffineSpec& spec) {
  const io::SafetensorsFile in(file);
  PackedBlock block;
  for (const model::LinearRole role : model::linear_roles(config)) {
    const model::LinearShape shape = model::linear_shape(config, role);
    const std::int64_t groups = spec.groups(shape.k),
                       words = quant::packed_words(shape.k, spec.bits, WordLayout::kDense);
    quant::QuantizedLinear& linear = block.linears[static_cast<std::size_t>(role)];
    linear = {shape.n,
              shape.k,
              spec,
              {},
              in.read_f32(linear_key(role, "scales")),
              in.read_u8(linear_key(role, "zero_points"))};
    const std::vector<std::int32_t> packed = in.read_i32(linear_key(role, "words"));
    if (static_cast<std::int64_t>(packed.size()) != shape.n * words ||
        static_cast<std::int64_t>(linear.scales.size()) != shape.n * groups) {
      fail(ErrorKind::kCorrupt, "pipeline.block_state", file.string(), ": ", model::hf_name(role),
           " has another size than ", shape_string(std::vector<std::int64_t>{shape.n, shape.k}), " at ",
           quant::scheme_name(spec), "; give --restart to begin again");
    }
    linear.codes.resize(static_cast<std::size_t>(shape.n * shape.k));
    quant::unpack_rows(reinterpret_cast<const std::uint32_t*>(packed.data()), shape.n, shape.k, spec.bits,
                       linear.codes.data());
    quant::check_quantized_linear(linear, file.string());
    if (in.find(linear_key(role, "input_scale")) != nullptr) {
      const std::vector<std::int32_t> zero_points = in.read_i32(linear_key(role, "input_zero_point"));
      block.input_grids[static_cast<std::size_t>(role)] = {in.read_f32(linear_key(role, "input_scale")),
                                                           {zero_points.begin(), zero_points.end()}};
    }
  }
  nn::DecoderBlock names(config);
  for (const auto& [name, norm] : names.norms()) block.floats[name] = in.read_f32(name);
  for (const model::LinearRole role : model::linear_roles(config)) {
    const std::string bias = linear_key(role, "bias");
    if (in.find(bias) != nullptr) block.floats[bias] = in.read_f32(bias);
  }
  return block;
}

PackedBlock finish_block(nn::DecoderBlock& block, const methods::LinearCodes* codes,
                         const recipe::Recipe& recipe) {
  PackedBlock state;
  const auto keep = [&](const std::string& name, const at::Tensor& tensor) {
    const at::Tensor values = tensor.detach().to(at::kCPU).contiguous();
    state.floats[name].assign(values.const_data_ptr<float>(),
                              values.const_data_ptr<float>() + values.numel());
  };
  for (const model::LinearRole role : block.roles()) {
    const auto i = static_cast<std::size_t>(role);
    const nn::QuantLinear& linear = block.linear(role);
    state.linears[i] = codes != nullptr ? (*codes)[i] : linear.quantized(/*scale_f16=*/true);
    state.linears[i] = quant::widen(std::move(state.linears[i]), recipe.weights.stored_spec().bits);
    if (recipe.transforms() && linear.bias.defined()) keep(linear_key(role, "bias"), linear.bias);
  }
  for (auto& [name, norm] : block.norms()) keep(name, *norm);
  return state;
}

void check_block_state(const PackedBlock& state, const formats::Checkpoint& checkpoint, std::int64_t index) {
  for (const auto& [name, values] : state.floats) {
    if (checkpoint.has(model::block_prefix(index) + name)) continue;
    fail(ErrorKind::kUnsupported, "pipeline.block_state", model::block_prefix(index), name,
         ": a transformation made it, and ", checkpoint.config().family,
         " checkpoints have no such tensor; switch shifts off");
  }
}

void apply_block_state(nn::DecoderBlock& block, const PackedBlock& state, const at::Device& device,
                       bool packed) {
  for (const model::LinearRole role : block.roles()) {
    const quant::QuantizedLinear& quantized = state.linears[static_cast<std::size_t>(role)];
    packed ? block.linear(role).set_packed(quantized, device)
           : block.linear(role).set_dequantized(quantized, device);
    if (const auto bias = state.floats.find(linear_key(role, "bias")); bias != state.floats.end())
      block.linear(role).bias = tensor_from(bias->second, {quantized.n}).to(device);
  }
  for (auto& [name, norm] : block.norms()) {
    const std::vector<float>& values = state.floats.at(name);
    *norm = tensor_from(values, {static_cast<std::int64_t>(values.size())}).to(device);
  }
}

}  // namespace crumb::pipeline
