// Quantization runs of a second: a model of random weights, few windows, every stage.
#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "pipeline/quantize_model.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

namespace crumb::test {

inline std::string file_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Names in a folder, sorted.
inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// `bytes` random lower-case words.
inline void write_tiny_text(const std::filesystem::path& file, std::size_t bytes) {
  SplitMix64 random(17);
  std::string text;
  while (text.size() < bytes) {
    for (std::uint64_t left = 2 + random.next() % 7; left > 0; --left)
      text += static_cast<char>('a' + random.next() % 26);
    text += random.next() % 12 == 0 ? ".\n" : " ";
  }
  std::ofstream(file) << text;
}

/// A folder with a model and its data, and requests on them.
class TinyRun {
 public:
  explicit TinyRun(const TinyModel& model = {}) : model_(model) {
    write_tiny_model(path("model"), model);
    write_tiny_tokens(path("tokens.safetensors"));
    write_tiny_text(path("text.txt"), 6000);
  }

  std::filesystem::path path(const std::string& name) const { return folder_ / name; }
  const std::filesystem::path& folder() const { return folder_.path(); }

  /// Token file, one thread, f32, evaluation on two windows.
  pipeline::QuantizeRequest request(const std::string& output = "out") const {
    pipeline::QuantizeRequest request;
    request.model = path("model");
    request.output = path(output);
    request.calib_spec = path("tokens.safetensors");
    request.eval_spec = path("tokens.safetensors").string() + ":val";
    request.eval_context = 32;
    request.device = "cpu";
    request.threads = 1;
    recipe::Recipe& r = request.recipe;
    r.calibration.samples = 8;
    r.calibration.validation_samples = 2;
    r.calibration.tokens = 32;
    r.block_ap.precision = recipe::Precision::kF32;
    r.e2e_qp.precision = recipe::Precision::kF32;
    r.e2e_qp.samples = 4;
    r.e2e_qp.tokens = 32;
    r.e2e_qp.steps = 4;
    return request;
  }

  /// request() with these stages, each on a budget of a fraction of a second.
  pipeline::QuantizeRequest request(const std::vector<recipe::Stage>& stages, int bits,
                                    const std::string& output = "out") const {
    pipeline::QuantizeRequest small = request(output);
    recipe::Recipe& r = small.recipe;
    r.stages = stages;
    r.weights.bits = bits;
    r.omniquant.epochs = 2;
    r.omniquant.batch = 2;
    r.signround.iterations = 8;
    r.signround.batch = 4;
    return small;
  }

  /// The weights again, with one tensor changed.
  void rewrite(const std::string& tensor, std::size_t index, float value) const {
    TinyTensors tensors = tiny_tensors(model_);
    tensors.at(tensor).values.at(index) = value;
    write_tiny_model(path("model"), model_, tensors);
  }

  std::string weights(const std::string& output = "out") const {
    return file_bytes(path(output) / "model.safetensors");
  }

 private:
  TempDir folder_;
  TinyModel model_;
};

/// The row of the report's stages.
inline nlohmann::ordered_json stage(const nlohmann::ordered_json& report, const std::string& name) {
  for (const auto& row : report.at("stages")) {
    if (row.at("stage") == name) return row;
  }
  return nullptr;
}

}  // namespace crumb::test
