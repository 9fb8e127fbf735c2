// A model whose logits are a formula of the context, so that every measure of it is known on paper.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/language_model.h"

namespace crumb::test {

class FakeModel : public model::LanguageModel {
 public:
  /// Logit of token `next` after the tokens [0, position] of the sequence.
  using Formula = std::function<float(std::span<const std::int32_t> context, std::int32_t next)>;
  FakeModel(std::int64_t vocabulary, std::int64_t context, Formula formula, std::int64_t chunk = 3)
      : vocabulary_(vocabulary), context_(context), chunk_(chunk), formula_(std::move(formula)) {}

  std::int64_t vocab_size() const override { return vocabulary_; }
  std::int64_t max_context() const override { return context_; }
  void forward(std::span<const std::int32_t> tokens, const LogitsSink& sink) override {
    ++forwards;
    const auto count = static_cast<std::int64_t>(tokens.size());
    for (std::int64_t first = 0; first < count; first += chunk_) {
      const std::int64_t rows = std::min(chunk_, count - first);
      std::vector<float> logits;
      for (std::int64_t r = 0; r < rows; ++r)
        append_row(tokens.first(static_cast<std::size_t>(first + r + 1)), logits);
      sink(first, rows, logits);
    }
  }
  std::unique_ptr<model::Session> open_session(std::int64_t, std::int64_t capacity) override {
    return std::make_unique<FakeSession>(*this, capacity);
  }

  int forwards = 0;

 private:
  class FakeSession : public model::Session {
   public:
    FakeSession(const FakeModel& model, std::int64_t capacity) : model_(model), capacity_(capacity) {}
    std::span<const float> append(std::span<const std::int32_t> tokens, std::int64_t) override {
      seen_.insert(seen_.end(), tokens.begin(), tokens.end());
      if (length() > capacity_) fail(ErrorKind::kInvalidArgument, "test", "past the capacity");
      logits_.clear();
      model_.append_row(seen_, logits_);
      return logits_;
    }
    std::int64_t length() const override { return static_cast<std::int64_t>(seen_.size()); }

   private:
    const FakeModel& model_;
    std::int64_t capacity_;
    std::vector<std::int32_t> seen_;
    std::vector<float> logits_;
  };

  void append_row(std::span<const std::int32_t> context, std::vector<float>& logits) const {
    for (std::int32_t v = 0; v < vocabulary_; ++v) logits.push_back(formula_(context, v));
  }

  std::int64_t vocabulary_, context_, chunk_;
  Formula formula_;
};

}  // namespace crumb::test
