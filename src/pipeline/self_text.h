// Calibration text when the user gives none: what the full-precision model itself writes (data-free, arXiv:2305.17888 §3.1).
#pragma once
#include "data/tokenizer.h"
#include "data/windows.h"
#include "model/language_model.h"

namespace crumb::pipeline {

/// `count` windows of `length` tokens. Each starts with BOS (where the tokenizer has one) or a token drawn uniformly, and goes on with tokens drawn
/// from the model's own distribution at temperature 1. The same seed gives the same windows on one machine and thread count.
data::TokenWindows sample_self_text(model::LanguageModel& lm, const data::Tokenizer* tokenizer, std::int64_t count, std::int64_t length,
                                    std::uint64_t seed);

}  // namespace crumb::pipeline
