// What evaluation and generation ask of a model, whoever computes it: libtorch now, the low-bit engine later.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace crumb::model {

/// A running sequence batch with its key/value cache.
class Session {
 public:
  virtual ~Session() = default;
  /// Appends `tokens` [batch, count] (row-major, equal count per row) and returns the logits of the last
  /// position [batch, vocab_size] f32, valid until the next call. Throws InvalidArgument past the capacity it
  /// was opened with.
  virtual std::span<const float> append(std::span<const std::int32_t> tokens, std::int64_t count) = 0;
  virtual std::int64_t length() const = 0;
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual std::int64_t vocab_size() const = 0;
  virtual std::int64_t max_context() const = 0;

  /// Receives logits [rows, vocab_size] of positions first … first + rows - 1; called in order, every
  /// position once.
  using LogitsSink =
      std::function<void(std::int64_t first, std::int64_t rows, std::span<const float> logits)>;
  /// Forward of one sequence from position 0, logits in chunks so that tokens x vocabulary is never held at
  /// once.
  virtual void forward(std::span<const std::int32_t> tokens, const LogitsSink& sink) = 0;

  /// `capacity` tokens per row, prompt and continuation together.
  virtual std::unique_ptr<Session> open_session(std::int64_t batch, std::int64_t capacity) = 0;
};

}  // namespace crumb::model
