// The engine as evaluation and generation know a model.
#pragma once
#include <memory>

#include "model/language_model.h"
#include "runtime/engine.h"

namespace crumb::runtime {

/// Sessions hold the engine alive. Sequences of a session take their memory when opened: OutOfMemory then.
class EngineLanguageModel final : public model::LanguageModel {
 public:
  explicit EngineLanguageModel(std::shared_ptr<Engine> engine);

  std::int64_t vocab_size() const override;
  std::int64_t max_context() const override;
  void forward(std::span<const std::int32_t> tokens, const LogitsSink& sink) override;
  std::unique_ptr<model::Session> open_session(std::int64_t batch, std::int64_t capacity) override;

  Engine& engine() { return *engine_; }

 private:
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<KvCache> scratch_;  // of forward(); kept for windows of the same length
};

}  // namespace crumb::runtime
