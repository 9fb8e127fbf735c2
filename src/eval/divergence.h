// How far a model's predictions are from a reference model's, position by position: finer than two
// perplexities side by side.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "data/windows.h"
#include "eval/perplexity.h"
#include "model/language_model.h"

namespace crumb::eval {

struct Divergence {
  Perplexity model, reference;  // on the same windows; seconds is that of both together
  double kl_mean = 0;           // mean over positions of KL(reference || model), nats
  double kl_p99 = 0;            // 99th percentile of the same, linear between ranks
  double top1_agreement = 0;    // part of the positions where both put the same token first
};

/// Both models see every window; the L - 1 predicting positions count. The reference's logits of a slice of
/// positions are kept (at most `reference_bytes`, at least one position) while the model runs; longer windows
/// take several forward passes instead of more memory. Throws as perplexity(), and InvalidArgument when the
/// vocabularies differ.
Divergence divergence(model::LanguageModel& model, model::LanguageModel& reference,
                      const data::TokenWindows& windows, const Progress& progress = {},
                      std::int64_t reference_bytes = std::int64_t{512} << 20);

/// kl_mean, kl_p99, top1_agreement, reference_ppl, after the fields of the model's perplexity.
nlohmann::ordered_json to_json(const Divergence& result);

/// The q-quantile (0 … 1) of `values`, linear between ranks; reorders them. `values` must not be empty.
double quantile(std::vector<double>& values, double q);

}  // namespace crumb::eval
