#include "eval/generate.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/interrupt.h"

namespace crumb::eval {
namespace {

constexpr char kWhere[] = "eval.generate";

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::string_view to_string(StopReason reason) noexcept {
  switch (reason) {
    case StopReason::kLength:
      return "length";
    case StopReason::kEndOfSequence:
      return "end_of_sequence";
    case StopReason::kContextFull:
      return "context_full";
    case StopReason::kCallback:
      return "callback";
    case StopReason::kInterrupted:
      return "interrupted";
  }
  return "?";
}

namespace {

void check(const model::LanguageModel& model, std::span<const std::int32_t> prompt,
           const GenerateOptions& options, std::int64_t context) {
  const auto length = static_cast<std::int64_t>(prompt.size());
  if (length == 0)
    fail(ErrorKind::kInvalidArgument, kWhere, "prompt: no tokens; expected at least 1; give a text with -p");
  if (options.max_tokens < 1)
    fail(ErrorKind::kInvalidArgument, kWhere, "max_tokens is ", options.max_tokens, "; expected at least 1");
  if (length >= context) {
    fail(ErrorKind::kInvalidArgument, kWhere, "prompt: ", length, " tokens; the context of ", context,
         " leaves no room for an answer; shorten the prompt");
  }
  for (const std::int32_t id : prompt) {
    if (id < 0 || id >= model.vocab_size()) {
      fail(ErrorKind::kInvalidArgument, kWhere, "prompt: token id ", id, "; the model's vocabulary is ",
           model.vocab_size(), "; is this the right tokenizer?");
    }
  }
}

}  // namespace

Generation generate(model::LanguageModel& model, std::span<const std::int32_t> prompt,
                    const GenerateOptions& options, const std::function<bool(std::int32_t)>& on_token) {
  check(model, prompt, options, model.max_context());
  const std::int64_t capacity =
      std::min(model.max_context(), static_cast<std::int64_t>(prompt.size()) + options.max_tokens);
  const Sampler first_check(options.sampler);  // before memory is taken
  const auto session = model.open_session(1, capacity);
  return generate(model, *session, capacity, prompt, options, on_token);
}

Generation generate(model::LanguageModel& model, model::Session& session, std::int64_t capacity,
                    std::span<const std::int32_t> prompt, const GenerateOptions& options,
                    const std::function<bool(std::int32_t)>& on_token) {
  check(model, prompt, options, capacity);
  const auto length = static_cast<std::int64_t>(prompt.size()), held = session.length();
  if (held >= length)
    fail(ErrorKind::kInvalidArgument, kWhere, "prompt: ", length, " tokens, and the session holds ", held,
         "; expected one at least that is new");
  Sampler sampler(options.sampler);
  sampler.observe(prompt);
  const auto start = std::chrono::steady_clock::now();
  std::span<const float> logits =
      session.append(prompt.subspan(static_cast<std::size_t>(held)), length - held);

  Generation result;
  result.prompt_seconds = seconds_since(start);
  for (;;) {
    if (interrupted()) {
      result.stop = StopReason::kInterrupted;
      break;
    }
    const std::int32_t token = sampler.next(logits);
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) != options.stop_ids.end()) {
      result.stop = StopReason::kEndOfSequence;
      break;
    }
    result.tokens.push_back(token);
    if (on_token && !on_token(token)) {
      result.stop = StopReason::kCallback;
      break;
    }
    if (static_cast<std::int64_t>(result.tokens.size()) == options.max_tokens) {
      result.stop = StopReason::kLength;
      break;
    }
    if (session.length() == capacity) {
      result.stop = StopReason::kContextFull;
      break;
    }
    logits = session.append({&token, 1}, 1);
    ++result.steps;
  }
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace crumb::eval
