#include "formats/checkpoint.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "formats/checkpoint_readers.h"

namespace crumb::formats {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kWhere = "formats.checkpoint";

bool has_safetensors(const fs::path& folder) {
  return fs::exists(folder / "model.safetensors") || fs::exists(folder / "model.safetensors.index.json");
}

std::optional<fs::path> only_gguf_in(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".gguf") found.push_back(entry.path());
  }
  if (found.size() > 1) {
    fail(ErrorKind::kInvalidArgument, kWhere, folder.string(), ": holds ", found.size(),
         " GGUF files; want one; name the file");
  }
  return found.empty() ? std::nullopt : std::optional(found.front());
}

void check_shape(const Checkpoint& checkpoint, const std::string& name,
                 const std::vector<std::int64_t>& expected) {
  if (!checkpoint.has(name)) {
    fail(ErrorKind::kNotFound, kWhere, checkpoint.path().string(), ": tensor '", name,
         "' is missing; the configuration promises it with shape ", shape_string(expected),
         "; the download may be incomplete, or config.json is another model's");
  }
  if (checkpoint.shape(name) != expected) {
    fail(ErrorKind::kCorrupt, kWhere, checkpoint.path().string(), ": tensor '", name, "' has shape ",
         shape_string(checkpoint.shape(name)), "; the configuration promises ", shape_string(expected),
         "; config.json may be another model's");
  }
}

void check_promise(const Checkpoint& checkpoint, const model::PromisedTensor& tensor) {
  if (tensor.linear_weight) {
    const std::string linear = tensor.name.substr(0, tensor.name.size() - std::string_view(".weight").size());
    if (checkpoint.check_codes(linear, tensor.shape[0], tensor.shape[1])) return;
    if (checkpoint.has(linear + ".qweight") && !checkpoint.packed_spec()) {
      fail(ErrorKind::kUnsupported, kWhere, checkpoint.path().string(), ": '", linear,
           ".qweight' holds codes, but neither config.json nor quantize_config.json says which; want a "
           "quantization_config with quant_method, bits, group_size and checkpoint_format; or crumb import "
           "--gptq-zeros v2 (EfficientQAT's and OmniQuant's own directories) or v1");
    }
  }
  check_shape(checkpoint, tensor.name, tensor.shape);
}

// Tensors that other configurations of the known families give a block.
std::vector<std::string> unpromised_names(std::int64_t block,
                                          const std::vector<model::PromisedTensor>& promised) {
  const std::string prefix = model::block_prefix(block);
  std::vector<std::string> names = {prefix + "self_attn.q_norm.weight", prefix + "self_attn.k_norm.weight"};
  for (const model::LinearRole role : model::kLinearRoles)
    names.push_back(model::linear_name(block, role) + ".bias");
  for (const char* norm : {"input_layernorm.bias", "post_attention_layernorm.bias"})
    names.push_back(prefix + norm);
  std::erase_if(names, [&](const std::string& name) {
    return std::any_of(promised.begin(), promised.end(),
                       [&](const model::PromisedTensor& tensor) { return tensor.name == name; });
  });
  return names;
}

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::open(const fs::path& path, const OpenOptions& options) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    fail(ErrorKind::kNotFound, kWhere, path.string(),
         ": no such file or directory; want a Hugging Face directory, a GGUF file, or a directory that crumb "
         "wrote");
  }
  std::unique_ptr<Checkpoint> checkpoint;
  if (fs::is_directory(path)) {
    const bool configured = fs::exists(path / "config.json");
    const auto gguf = has_safetensors(path)
                          ? std::nullopt
                          : only_gguf_in(path);  // repositories of GGUF files may hold a config.json too
    if (!configured && !gguf) {
      fail(ErrorKind::kNotFound, kWhere, path.string(),
           ": neither config.json nor a .gguf file is in it; want a model's directory");
    }
    if (gguf)
      checkpoint = open_gguf(*gguf);
    else if (!has_safetensors(path) && fs::exists(path / "model.onnx"))
      checkpoint = open_onnx_directory(path);
    else
      checkpoint = open_hf_directory(path, options);
  } else if (path.extension() == ".gguf") {
    checkpoint = open_gguf(path);
  } else {
    fail(ErrorKind::kUnsupported, kWhere, path.string(),
         ": not a directory and not a .gguf file; give the directory that holds config.json and the weights");
  }
  check_promises(*checkpoint);
  return checkpoint;
}

void check_promises(const Checkpoint& checkpoint) {
  const model::ModelConfig& config = checkpoint.config();
  for (const model::PromisedTensor& tensor : model::outer_tensors(config)) check_promise(checkpoint, tensor);
  // Block by block, so that an absurd num_hidden_layers fails at the first block that is not there.
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::vector<model::PromisedTensor> promised = model::block_tensors(config, i);
    for (const model::PromisedTensor& tensor : promised) check_promise(checkpoint, tensor);
    for (const std::string& name : unpromised_names(i, promised)) {
      if (!checkpoint.has(name)) continue;
      // Some packers write a bias of zeros for every linear; it changes nothing.
      const std::vector<float> values = checkpoint.read_f32(name);
      if (name.ends_with(".bias") &&
          std::all_of(values.begin(), values.end(), [](float v) { return v == 0.0f; }))
        continue;
      fail(ErrorKind::kCorrupt, kWhere, checkpoint.path().string(), ": tensor '", name,
           "' is there, which a ", config.family,
           " with this configuration does not have; leaving it out would make another model. Does "
           "config.json belong to these weights?");
    }
  }
  const std::string beyond = model::block_prefix(config.num_hidden_layers) + "input_layernorm.weight";
  if (checkpoint.has(beyond)) {
    fail(ErrorKind::kCorrupt, kWhere, checkpoint.path().string(), ": tensor '", beyond,
         "' is there, but num_hidden_layers is ", config.num_hidden_layers,
         "; config.json is another model's");
  }
}

std::vector<float> Checkpoint::read_f32_rows(std::string_view name, std::int64_t first,
                                             std::int64_t count) const {
  const std::vector<float> all = read_f32(name);
  const std::int64_t rows = shape(name).at(0), columns = static_cast<std::int64_t>(all.size()) / rows;
  CRUMB_CHECK(first >= 0 && count >= 0 && first + count <= rows);
  return {all.begin() + first * columns, all.begin() + (first + count) * columns};
}

quant::QuantizedLinear Checkpoint::read_codes(std::string_view) const {
  CRUMB_CHECK(false);  // grid_of() said that there are none
}

void check_finite(std::span<const float> values, std::string_view subject, std::string_view name) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      fail(ErrorKind::kNumerics, kWhere, subject, ": tensor '", name, "' has ", values[i], " at index ", i,
           "; want finite weights; download the file again, or take another checkpoint");
    }
  }
}

}  // namespace crumb::formats
