#include "formats/checkpoint.h"

#include <cmath>

#include "base/error.h"
#include "formats/checkpoint_readers.h"

namespace crumb::formats {

namespace fs = std::filesystem;

namespace {

std::optional<fs::path> only_gguf_in(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".gguf") found.push_back(entry.path());
  }
  if (found.size() > 1) {
    fail(ErrorKind::kInvalidArgument, "formats.checkpoint", folder.string(), ": holds ", found.size(), " GGUF files; want one; name the file");
  }
  return found.empty() ? std::nullopt : std::optional(found.front());
}

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::open(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    fail(ErrorKind::kNotFound, "formats.checkpoint", path.string(), ": no such file or directory; want a Hugging Face directory, a GGUF file, or a directory that crumb wrote");
  }
  std::unique_ptr<Checkpoint> checkpoint;
  if (fs::is_directory(path)) {
    if (fs::exists(path / "config.json")) {
      checkpoint = open_hf_directory(path);
    } else if (const auto gguf = only_gguf_in(path)) {
      checkpoint = open_gguf(*gguf);
    } else {
      fail(ErrorKind::kNotFound, "formats.checkpoint", path.string(), ": neither config.json nor a .gguf file is in it; want a model's directory");
    }
  } else if (path.extension() == ".gguf") {
    checkpoint = open_gguf(path);
  } else {
    fail(ErrorKind::kUnsupported, "formats.checkpoint", path.string(), ": not a directory and not a .gguf file; give the directory that holds config.json and the weights");
  }
  check_promises(*checkpoint);
  return checkpoint;
}

void check_promises(const Checkpoint& checkpoint) {
  const model::ModelConfig& config = checkpoint.config();
  std::vector<model::PromisedTensor> promised = model::outer_tensors(config);
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    for (auto& tensor : model::block_tensors(config, i)) promised.push_back(std::move(tensor));
  }
  for (const model::PromisedTensor& tensor : promised) {
    const std::string linear = tensor.linear_weight ? tensor.name.substr(0, tensor.name.size() - std::string_view(".weight").size()) : "";
    if (tensor.linear_weight && checkpoint.has(linear + ".qweight")) continue;  // unpacking checks its sizes
    if (!checkpoint.has(tensor.name)) {
      fail(ErrorKind::kNotFound, "formats.checkpoint", checkpoint.path().string(), ": tensor '", tensor.name, "' is missing; the configuration promises it with shape ",
           shape_string(tensor.shape), "; the download may be incomplete, or config.json is another model's");
    }
    if (checkpoint.shape(tensor.name) != tensor.shape) {
      fail(ErrorKind::kCorrupt, "formats.checkpoint", checkpoint.path().string(), ": tensor '", tensor.name, "' has shape ",
           shape_string(checkpoint.shape(tensor.name)), "; the configuration promises ", shape_string(tensor.shape), "; config.json may be another model's");
    }
  }
}

void check_finite(std::span<const float> values, std::string_view subject, std::string_view name) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      fail(ErrorKind::kNumerics, "formats.checkpoint", subject, ": tensor '", name, "' has ", values[i], " at index ", i,
           "; want finite weights; download the file again, or take another checkpoint");
    }
  }
}

}  // namespace crumb::formats
