// The kinds of checkpoint behind Checkpoint::open, and the checks that they share.
#pragma once
#include <memory>

#include "formats/checkpoint.h"
#include "io/gguf.h"

namespace crumb::formats {

std::unique_ptr<Checkpoint> open_hf_directory(const std::filesystem::path& folder,
                                              const OpenOptions& options);
/// model.onnx with config.json beside it.
std::unique_ptr<Checkpoint> open_onnx_directory(const std::filesystem::path& folder);
std::unique_ptr<Checkpoint> open_gguf(const std::filesystem::path& file);

/// Every tensor that the configuration promises is there with its shape, packed ones with the shapes of their
/// parts, and no block has a norm or a bias more (biases of zeros excepted); throws NotFound, Corrupt or
/// Unsupported.
void check_promises(const Checkpoint& checkpoint);
/// Throws Numerics, naming tensor and index.
void check_finite(std::span<const float> values, std::string_view subject, std::string_view name);

/// A config.json for the metadata of a GGUF file, such as transformers would load. Throws Unsupported for an
/// architecture or rope scaling that crumb does not know, Corrupt for missing keys.
std::string config_json_from_gguf(const io::GgufFile& file);

}  // namespace crumb::formats
