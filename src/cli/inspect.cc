#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/command.h"
#include "cli/grid_json.h"
#include "formats/checkpoint.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "model/family.h"
#include "quant/spec.h"
#include "recipe/recipe.h"

namespace crumb::cli {
namespace {

using nlohmann::ordered_json;

struct InspectOptions {
  std::string path;
  bool json = false, tensors = false;
};

std::string_view kind_word(formats::CheckpointKind kind) {
  switch (kind) {
    case formats::CheckpointKind::kHuggingFace:
      return "huggingface";
    case formats::CheckpointKind::kGguf:
      return "gguf";
    case formats::CheckpointKind::kPacked:
      return "packed";
  }
  return "?";
}

/// "linears", "embedding", "head", "norms", "biases" or "other".
std::string_view part_of(const std::string& tensor) {
  if (tensor.starts_with("model.embed_")) return "embedding";
  if (tensor.starts_with("lm_head.")) return "head";
  if (tensor.ends_with("norm.weight") || tensor.ends_with("norm.bias")) return "norms";
  if (tensor.ends_with(".bias")) return "biases";
  return tensor.find("_proj.") != std::string::npos && model::block_of(tensor) >= 0 ? "linears" : "other";
}

/// Bytes of each part, and of the block linears the bits of one weight.
ordered_json parts_json(const std::vector<formats::StoredTensor>& tensors, const model::ModelConfig& config,
                        std::int64_t linear_weights) {
  ordered_json parts = ordered_json::object();
  for (const char* name : {"linears", "embedding", "head", "norms", "biases", "other"}) {
    std::int64_t bytes = 0, count = 0;
    for (const formats::StoredTensor& tensor : tensors) {
      if (part_of(model::name_from_stored(config, tensor.name)) != name) continue;
      bytes += tensor.bytes;
      ++count;
    }
    if (count == 0) continue;
    parts[name] = {{"tensors", count}, {"bytes", bytes}};
    if (std::string_view(name) == "linears")
      parts[name]["bits_per_weight"] = 8.0 * static_cast<double>(bytes) / static_cast<double>(linear_weights);
  }
  return parts;
}

ordered_json tensors_json(const std::vector<formats::StoredTensor>& tensors) {
  ordered_json rows = ordered_json::array();
  for (const formats::StoredTensor& tensor : tensors)
    rows.push_back(
        {{"name", tensor.name}, {"dtype", tensor.type}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
  return rows;
}

ordered_json inspect_checkpoint(const std::filesystem::path& path, bool with_tensors) {
  const auto checkpoint = formats::Checkpoint::open(path);
  const model::ModelConfig& c = checkpoint->config();
  const model::ParameterCount count = model::count_parameters(c);
  ordered_json out;
  out["kind"] = kind_word(checkpoint->kind());
  out["path"] = path.string();
  out["weights"] = checkpoint->describe();
  out["family"] = c.family;
  out["parameters"] = count.total();
  out["block_linear_parameters"] = count.block_linears;
  out["embedding_parameters"] = count.embeddings;
  out["tensor_bytes"] = checkpoint->tensor_bytes();
  out["bits_per_weight"] =
      8.0 * static_cast<double>(checkpoint->tensor_bytes()) / static_cast<double>(count.total());
  out["num_hidden_layers"] = c.num_hidden_layers;
  out["hidden_size"] = c.hidden_size;
  out["intermediate_size"] = c.intermediate_size;
  out["num_attention_heads"] = c.num_attention_heads;
  out["num_key_value_heads"] = c.num_key_value_heads;
  out["head_dim"] = c.head_dim;
  out["vocab_size"] = c.vocab_size;
  out["max_position_embeddings"] = c.max_position_embeddings;
  out["tie_word_embeddings"] = c.tie_word_embeddings;
  if (c.positions == model::PositionKind::kRope) out["rope_theta"] = c.rope.theta;
  if (const auto spec = checkpoint->packed_spec()) {
    out["scheme"] = quant::scheme_name(*spec);
    out["bits"] = spec->bits;
    out["group_size"] = spec->group_size;
    out["grid"] = quant::to_string(spec->grid);
  }
  if (checkpoint->weight_bits() != 0) out["weight_bits"] = checkpoint->weight_bits();
  if (const auto scheme = checkpoint->activation_scheme()) {
    out["activation_bits"] = scheme->bits;
    out["kv_bits"] = scheme->kv_bits;
    out["activation_grid"] =
        cat(scheme->symmetric ? "symmetric" : "asymmetric", " ", quant::to_string(scheme->inputs));
  }
  const std::vector<formats::StoredTensor> tensors = checkpoint->stored_tensors();
  out["parts"] = parts_json(tensors, c, count.block_linears);
  out.update(grids_json(*checkpoint));
  if (with_tensors) out["tensors"] = tensors_json(tensors);
  return out;
}

ordered_json inspect_safetensors(const std::filesystem::path& path, bool with_tensors) {
  const io::SafetensorsFile file(path);
  ordered_json out;
  out["kind"] = "safetensors";
  out["path"] = path.string();
  std::int64_t bytes = 0;
  ordered_json tensors = ordered_json::array();
  for (const io::TensorInfo& tensor : file.tensors()) {
    bytes += static_cast<std::int64_t>(tensor.size);
    tensors.push_back({{"name", tensor.name},
                       {"dtype", to_string(tensor.dtype)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.size}});
  }
  out["tensor_count"] = file.tensors().size();
  out["tensor_bytes"] = bytes;
  if (!file.skipped().empty()) out["skipped"] = file.skipped();
  if (!file.metadata().empty()) out["metadata"] = file.metadata();
  if (with_tensors) out["tensors"] = std::move(tensors);
  return out;
}

ordered_json inspect(const InspectOptions& options) {
  const std::filesystem::path path = options.path;
  if (!std::filesystem::exists(path))
    fail(ErrorKind::kNotFound, "cli.inspect", options.path, ": no such file or directory");
  const std::string extension = path.extension().string();
  if (std::filesystem::is_directory(path) || extension == ".gguf")
    return inspect_checkpoint(path, options.tensors);
  if (extension == ".safetensors") return inspect_safetensors(path, options.tensors || options.json);
  if (extension == ".json") {
    ordered_json out{{"kind", "recipe"}, {"path", options.path}};
    out["recipe"] = recipe::to_json(recipe::load_recipe(options.path));
    return out;
  }
  fail(ErrorKind::kUnsupported, "cli.inspect", options.path, ": '", extension,
       "' is no kind of file that crumb reads; expected a model directory, .gguf, .safetensors or a recipe "
       ".json");
}

/// "key  value" lines; byte counts also in units that people read.
std::string as_text(const ordered_json& report) {
  std::string text;
  for (const auto& [key, value] : report.items()) {
    std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
    if (key == "tensor_bytes") shown += cat(" (", human_bytes(value.get<double>()), ")");
    if (key == "bits_per_weight") shown = fixed(value.get<double>(), 3);
    if (key == "grids") {
      if (value.empty()) continue;
      shown = grids_text(report);
    }
    if (key == "float_linears" && !report.at("grids").empty()) continue;  // said among the grids
    if (key == "parts") {
      shown = "";
      for (const auto& [part, figures] : value.items()) {
        shown += cat(shown.empty() ? "" : ", ", part, " ", human_bytes(figures["bytes"].get<double>()));
        if (figures.contains("bits_per_weight"))
          shown += cat(" (", fixed(figures["bits_per_weight"].get<double>(), 3), " bits a weight)");
      }
    }
    if (key == "recipe") shown = "\n" + value.dump(2);
    if (key == "tensors") {
      shown = "";
      for (const auto& tensor : value) {
        shown += cat("\n  ", tensor["name"].get<std::string>(), "  ", tensor["dtype"].get<std::string>(), " ",
                     tensor["shape"].dump());
      }
    }
    text += cat(text.empty() ? "" : "\n", key, std::string(key.size() < 26 ? 26 - key.size() : 1, ' '), " ",
                shown);
  }
  return text;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand("inspect", "what a model, a tensor file or a recipe holds");
  command->add_option("path", options->path, "model directory, .gguf, .safetensors or recipe .json")
      ->required();
  command->add_flag("--tensors", options->tensors, "list the tensors");
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([options, &action] {
    action = [options] {
      const ordered_json report = inspect(*options);
      options->json ? print_json(report) : print_line(as_text(report));
      return 0;
    };
  });
}

}  // namespace crumb::cli
