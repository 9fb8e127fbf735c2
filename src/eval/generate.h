// Continuing a prompt token by token.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "eval/sampler.h"
#include "model/language_model.h"

namespace crumb::eval {

struct GenerateOptions {
  std::int64_t max_tokens = 128;  // new tokens
  SamplerOptions sampler;
  std::vector<std::int32_t> stop_ids;  // end of sequence; not part of the result
};

enum class StopReason { kLength, kEndOfSequence, kContextFull, kCallback, kInterrupted };
/// "length", "end_of_sequence", "context_full", "callback", "interrupted"
std::string_view to_string(StopReason reason) noexcept;

struct Generation {
  std::vector<std::int32_t> tokens;  // new ones only
  StopReason stop = StopReason::kLength;
  double prompt_seconds = 0, seconds = 0;  // until the first logits, and in all
  std::int64_t steps = 0;  // passes after the first logits: seconds - prompt_seconds went into them
};

/// `on_token` sees each new token as it is chosen; false ends the generation. Ctrl-C ends it too, with what
/// is there. Throws InvalidArgument for an empty prompt, ids outside the vocabulary, max_tokens < 1, or a
/// prompt that fills the model's context.
Generation generate(model::LanguageModel& model, std::span<const std::int32_t> prompt,
                    const GenerateOptions& options, const std::function<bool(std::int32_t)>& on_token = {});

/// As above in a session of one row that its owner keeps, of which the first session.length() tokens are the
/// prompt's (checked nowhere): only the others are computed. `capacity` is what it was opened with. Throws
/// InvalidArgument also when nothing is left to compute. The last token chosen is not in the session yet.
Generation generate(model::LanguageModel& model, model::Session& session, std::int64_t capacity,
                    std::span<const std::int32_t> prompt, const GenerateOptions& options,
                    const std::function<bool(std::int32_t)>& on_token = {});

}  // namespace crumb::eval
