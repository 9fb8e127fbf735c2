// model::LanguageModel answered by libtorch: a plain forward, for evaluation and for reading what a model
// writes.
#pragma once
#include <memory>

#include "model/language_model.h"
#include "nn/causal_lm.h"

namespace crumb::nn {

/// Takes the model over. `logits_chunk` rows of logits exist at once.
std::unique_ptr<model::LanguageModel> make_language_model(std::shared_ptr<const CausalLm> lm,
                                                          std::int64_t logits_chunk = 256);

}  // namespace crumb::nn
