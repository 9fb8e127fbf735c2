// Logits for other programs to compare theirs with.
#pragma once
#include <filesystem>
#include <vector>

#include "model/language_model.h"

namespace crumb::cli {

/// A model that keeps the logits of the first sequence it is asked about.
class FirstLogits final : public model::LanguageModel {
 public:
  /// Keeps a reference.
  explicit FirstLogits(model::LanguageModel& model) : model_(model) {}
  std::int64_t vocab_size() const override { return model_.vocab_size(); }
  std::int64_t max_context() const override { return model_.max_context(); }
  std::unique_ptr<model::Session> open_session(std::int64_t batch, std::int64_t capacity) override {
    return model_.open_session(batch, capacity);
  }
  void forward(std::span<const std::int32_t> tokens, const LogitsSink& sink) override;

  /// A .safetensors file of tokens i32 [n] and logits f32 [n, vocab]. Throws as io::AtomicFile.
  void write(const std::filesystem::path& path) const;

 private:
  model::LanguageModel& model_;
  std::vector<std::int32_t> tokens_;
  std::vector<float> logits_;
};

}  // namespace crumb::cli
