#include "runtime/engine_language_model.h"

#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace crumb::runtime {
namespace {

class EngineSession final : public model::Session {
 public:
  EngineSession(std::shared_ptr<Engine> engine, std::int64_t batch, std::int64_t capacity)
      : engine_(std::move(engine)) {
    if (batch < 1)
      fail(ErrorKind::kInvalidArgument, "runtime.session", batch, " sequences: want at least one");
    for (std::int64_t i = 0; i < batch; ++i) sequences_.push_back(engine_->new_sequence(capacity));
  }

  std::span<const float> append(std::span<const std::int32_t> tokens, std::int64_t count) override {
    CRUMB_CHECK(static_cast<std::int64_t>(tokens.size()) ==
                count * static_cast<std::int64_t>(sequences_.size()));
    std::vector<StepInput> batch;
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      const auto width = static_cast<std::size_t>(count);
      batch.push_back({sequences_[i].get(), tokens.subspan(i * width, width)});
    }
    return engine_->step(batch);
  }
  std::int64_t length() const override { return sequences_.front()->length(); }

 private:
  std::shared_ptr<Engine> engine_;
  std::vector<std::unique_ptr<KvCache>> sequences_;
};

}  // namespace

EngineLanguageModel::EngineLanguageModel(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}

std::int64_t EngineLanguageModel::vocab_size() const {
  return engine_->config().vocab_size;
}
std::int64_t EngineLanguageModel::max_context() const {
  return engine_->config().max_position_embeddings;
}

void EngineLanguageModel::forward(std::span<const std::int32_t> tokens, const LogitsSink& sink) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  if (scratch_ == nullptr || scratch_->capacity() < length) {
    scratch_.reset();  // before the larger one
    scratch_ = engine_->new_sequence(length);
  }
  scratch_->truncate(0);
  engine_->step_all({scratch_.get(), tokens}, sink);
}

std::unique_ptr<model::Session> EngineLanguageModel::open_session(std::int64_t batch, std::int64_t capacity) {
  return std::make_unique<EngineSession>(engine_, batch, capacity);
}

}  // namespace crumb::runtime
