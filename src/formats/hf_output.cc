#include "formats/hf_output.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "formats/companions.h"
#include "formats/gptq.h"
#include "formats/input_grid.h"
#include "formats/json_member.h"
#include "io/atomic_output.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using io::TensorToWrite;

constexpr std::string_view kWhere = "formats.hf_output";

std::int64_t bytes_of(const TensorToWrite& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), size_bytes(tensor.dtype),
                         std::multiplies<>());
}

bool is_norm(std::string_view name) {
  return name.ends_with("norm.weight") || name.ends_with("norm.bias");
}

// Fills shards in order and writes each when it is full. Tensor bytes exist for one shard at a time.
class ShardWriter {
 public:
  ShardWriter(const fs::path& folder, std::int64_t limit) : folder_(folder), limit_(limit) {}
  void add(TensorToWrite tensor) {
    const std::int64_t size = bytes_of(tensor);
    if (filled_ > 0 && filled_ + size > limit_) flush();
    std::vector<std::byte> bytes = tensor.produce();
    tensor.produce = [bytes = std::move(bytes)]() mutable { return std::move(bytes); };
    filled_ += size;
    total_ += size;
    files_[tensor.name] = temporary_names_.size();
    shard_.push_back(std::move(tensor));
  }
  // Names the shards and writes the index. Returns their number.
  std::int64_t finish() {
    flush();
    const auto count = static_cast<std::int64_t>(temporary_names_.size());
    if (count == 1) {
      fs::rename(folder_ / temporary_names_[0], folder_ / "model.safetensors");
      return count;
    }
    std::vector<std::string> names;
    for (const std::string& temporary : temporary_names_) {
      names.push_back(io::shard_file_name(names.size() + 1, temporary_names_.size()));
      fs::rename(folder_ / temporary, folder_ / names.back());
    }
    std::map<std::string, std::string> file_of_tensor;
    for (const auto& [name, shard] : files_) file_of_tensor[name] = names[shard];
    io::write_shard_index(folder_, file_of_tensor, static_cast<std::uint64_t>(total_));
    return count;
  }
  std::int64_t total() const { return total_; }

 private:
  void flush() {
    if (shard_.empty()) return;
    temporary_names_.push_back(cat("shard-", temporary_names_.size(), ".safetensors"));
    io::write_safetensors(folder_ / temporary_names_.back(), std::move(shard_), {{"format", "pt"}});
    shard_.clear();
    filled_ = 0;
  }

  fs::path folder_;
  std::int64_t limit_, filled_ = 0, total_ = 0;
  std::vector<TensorToWrite> shard_;
  std::vector<std::string> temporary_names_;
  std::map<std::string, std::size_t> files_;
};

TensorToWrite float_tensor(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                           std::vector<float> values) {
  return {name, dtype, std::move(shape),
          [values = std::move(values), dtype] { return io::convert_from_f32(values, dtype); }};
}

// GGUF block types hold numbers beyond binary16's range, and rounding would make them infinite.
void check_f16_range(const std::vector<float>& values, const std::string& name) {
  constexpr float kFirstInfinite = 65520.0f;
  const auto found =
      std::find_if(values.begin(), values.end(), [](float v) { return std::abs(v) >= kFirstInfinite; });
  if (found != values.end()) {
    fail(ErrorKind::kNumerics, kWhere, name, ": value ", found - values.begin(), " is ", *found,
         ", beyond F16's 65504; take a source in F32 or BF16");
  }
}

// A tensor of the source: changed values if there are some, norms as F32.
TensorToWrite outer_tensor(const Checkpoint& source, const model::PromisedTensor& tensor,
                           const std::map<std::string, std::vector<float>>& changed, const std::string& key) {
  const std::string stored = model::stored_name(source.config(), tensor.name);
  const auto found = changed.find(key);
  if (found == changed.end()) {
    return {stored, is_norm(tensor.name) ? DType::kF32 : source.float_dtype(tensor.name), tensor.shape,
            [&source, name = tensor.name] {
              const DType dtype = is_norm(name) ? DType::kF32 : source.float_dtype(name);
              const std::vector<float> values = source.read_f32(name);
              if (dtype == DType::kF16) check_f16_range(values, name);
              return io::convert_from_f32(values, dtype);
            }};
  }
  const std::int64_t elements =
      std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>());
  if (static_cast<std::int64_t>(found->second.size()) != elements) {
    fail(ErrorKind::kInvalidArgument, kWhere, tensor.name, ": ", found->second.size(),
         " changed values; want ", elements);
  }
  return float_tensor(stored, DType::kF32, tensor.shape, found->second);
}

std::string linear_of(const std::string& weight) {
  return weight.substr(0, weight.size() - std::string_view(".weight").size());
}

void check_linear(const quant::QuantizedLinear& linear, const model::PromisedTensor& promised,
                  const quant::AffineSpec& spec) {
  if (linear.n != promised.shape[0] || linear.k != promised.shape[1] || linear.spec.bits != spec.bits ||
      linear.spec.group_size != spec.group_size) {
    fail(ErrorKind::kInvalidArgument, kWhere, promised.name, ": got ",
         shape_string(std::vector<std::int64_t>{linear.n, linear.k}), " at ", quant::scheme_name(linear.spec),
         "; want ", shape_string(promised.shape), " at ", quant::scheme_name(spec));
  }
  quant::check_quantized_linear(linear, promised.name);
  if (spec.grid != quant::Grid::kSignedSym) return;
  const int half = 1 << (spec.bits - 1);
  for (const std::uint8_t z : linear.zero_points) {
    if (z != half && z != half - 1) {
      fail(ErrorKind::kInvalidArgument, kWhere, promised.name, ": zero point ", int{z}, "; grid ",
           quant::to_string(spec.grid), " allows ", half - 1, " and ", half);
    }
  }
}

std::int64_t packed_bytes(const model::PromisedTensor& weight, const quant::AffineSpec& spec) {
  quant::check_spec(spec, weight.shape[1], linear_of(weight.name));
  try {
    check_gptq_shape(weight.shape[0], weight.shape[1], spec.bits);
  } catch (const Error& error) {
    throw Error(error.kind(), cat(error.what(), " (", linear_of(weight.name), ")"));
  }
  return gptq_bytes(weight.shape[0], weight.shape[1], spec);
}

}  // namespace

std::int64_t hf_gptq_tensor_bytes(const Checkpoint& source, const quant::AffineSpec& spec) {
  const model::ModelConfig& config = source.config();
  std::int64_t bytes = 0;
  const auto add = [&](const model::PromisedTensor& tensor) {
    if (tensor.linear_weight) {
      bytes += packed_bytes(tensor, spec);
    } else {
      bytes += std::accumulate(
          tensor.shape.begin(), tensor.shape.end(),
          is_norm(tensor.name) ? std::int64_t{4} : size_bytes(source.float_dtype(tensor.name)),
          std::multiplies<>());
    }
  };
  for (const auto& tensor : model::outer_tensors(config)) add(tensor);
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    for (const auto& tensor : model::block_tensors(config, i)) add(tensor);
  }
  return bytes;
}

HfOutputReport write_hf_gptq(const Checkpoint& source, const fs::path& folder, const HfOutputOptions& options,
                             const std::function<PackedBlock(std::int64_t block)>& block) {
  const model::ModelConfig& config = source.config();
  if (!fs::is_directory(folder) || fs::exists(folder / "model.safetensors") ||
      fs::exists(folder / "model.safetensors.index.json")) {
    fail(ErrorKind::kInvalidArgument, kWhere, folder.string(),
         ": is no empty directory; want one to write the model into");
  }
  if (options.shard_bytes <= 0)
    fail(ErrorKind::kInvalidArgument, kWhere, "shard_bytes ", options.shard_bytes,
         ": want a positive number");
  const std::int64_t expected = hf_gptq_tensor_bytes(source, options.spec);
  io::check_free_space(folder, expected + expected / 50 + (std::int64_t{64} << 20));

  const std::vector<model::PromisedTensor> outer = model::outer_tensors(config);
  for (const auto& [name, values] : options.floats) {
    if (std::none_of(outer.begin(), outer.end(),
                     [&name = name](const auto& tensor) { return tensor.name == name; })) {
      fail(ErrorKind::kInvalidArgument, kWhere, name,
           ": a changed tensor that is not outside of the blocks; want one of the model's own");
    }
  }
  HfOutputReport report;
  std::int64_t linear_weights = 0;
  ShardWriter writer(folder, options.shard_bytes);
  for (const auto& tensor : outer) writer.add(outer_tensor(source, tensor, options.floats, tensor.name));
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const PackedBlock packed = block(i);
    const std::string prefix = model::block_prefix(i);
    const std::vector<model::PromisedTensor> promised = model::block_tensors(config, i);
    for (const auto& [name, values] : packed.floats) {
      if (std::none_of(promised.begin(), promised.end(), [&, &name = name](const auto& tensor) {
            return tensor.name == prefix + name && !tensor.linear_weight;
          })) {
        fail(ErrorKind::kInvalidArgument, kWhere, prefix, name,
             ": a changed tensor that the block does not have");
      }
    }
    for (const model::PromisedTensor& tensor : promised) {
      if (!tensor.linear_weight) {
        writer.add(outer_tensor(source, tensor, packed.floats, tensor.name.substr(prefix.size())));
        continue;
      }
      const auto role = std::find_if(
          std::begin(model::kLinearRoles), std::end(model::kLinearRoles),
          [&](model::LinearRole r) { return model::linear_name(i, r) + ".weight" == tensor.name; });
      const quant::QuantizedLinear& linear = packed.linears[static_cast<std::size_t>(*role)];
      check_linear(linear, tensor, options.spec);
      linear_weights += linear.n * linear.k;
      for (TensorToWrite& part :
           gptq_tensors_to_write(model::stored_name(config, linear_of(tensor.name)), linear)) {
        report.packed_linear_bytes += bytes_of(part);
        writer.add(std::move(part));
      }
      if (!options.activations || !options.activations->is_static()) continue;
      const auto& grid = packed.input_grids[static_cast<std::size_t>(*role)];
      if (!grid) {
        fail(ErrorKind::kInvalidArgument, kWhere, linear_of(tensor.name),
             ": no grid of its inputs; the activation scheme is static and wants one");
      }
      quant::check_static_grid(*grid, *options.activations, linear.k, linear_of(tensor.name));
      for (TensorToWrite& part : input_grid_tensors(model::stored_name(config, linear_of(tensor.name)), *grid,
                                                    options.activations->symmetric))
        writer.add(std::move(part));
    }
  }
  report.shards = writer.finish();
  report.tensor_bytes = writer.total();
  const nlohmann::ordered_json quantization = gptq_quantization_config({.spec = options.spec,
                                                                        .head_bits = options.head_bits,
                                                                        .activations = options.activations,
                                                                        .weight_bits = options.weight_bits,
                                                                        .others = {}});
  io::write_text_atomically(
      folder / "config.json",
      set_json_member(source.config_json(), "quantization_config", member_text(quantization)));
  io::write_text_atomically(folder / "quantize_config.json", quantization.dump(2) + "\n");
  write_companions(source, folder, options.texts);
  for (const auto& entry : fs::directory_iterator(folder))
    report.file_bytes += static_cast<std::int64_t>(fs::file_size(entry.path()));
  report.bits_per_linear_weight =
      8.0 * static_cast<double>(report.packed_linear_bytes) / static_cast<double>(linear_weights);
  return report;
}

}  // namespace crumb::formats
