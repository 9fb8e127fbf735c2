// Perplexity over non-overlapping windows, as EfficientQAT and its neighbors report it (arXiv:2407.11062;
// their test_ppl).
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "data/windows.h"
#include "model/language_model.h"

namespace crumb::eval {

/// Called after each window.
using Progress = std::function<void(std::int64_t done, std::int64_t total)>;

struct Perplexity {
  double nll = 0;  // mean over windows of the mean cross-entropy of a window's L - 1 predictions, nats
  double ppl = 0;  // exp(nll); infinity when that overflows
  std::vector<double> window_nll;  // one per window
  std::int64_t tokens = 0;         // predictions counted: windows * (L - 1)
  std::int64_t context = 0;        // L
  double seconds = 0;
};

/// Each window stands alone: positions start at 0, no BOS is added. Logits arrive in chunks, so tokens x
/// vocabulary never exists at once. Throws InvalidArgument for no windows, L < 2, L above the model's
/// context, or ids outside its vocabulary; Numerics for non-finite logits (window and position); Interrupted
/// between windows after Ctrl-C.
Perplexity perplexity(model::LanguageModel& model, const data::TokenWindows& windows,
                      const Progress& progress = {});

/// Fills nll and ppl from window_nll.
void finish(Perplexity& result);

/// ppl, nll, tokens, windows, context, seconds.
nlohmann::ordered_json to_json(const Perplexity& result);

/// The checks of perplexity() on model and windows; `where` names the caller.
void check_windows(const model::LanguageModel& model, const data::TokenWindows& windows, const char* where);

}  // namespace crumb::eval
