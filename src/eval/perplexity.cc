#include "eval/perplexity.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/parallel_for.h"
#include "eval/token_loss.h"

namespace crumb::eval {

void check_windows(const model::LanguageModel& model, const data::TokenWindows& windows, const char* where) {
  if (windows.rows < 1)
    fail(ErrorKind::kInvalidArgument, where, windows.source,
         ": no windows; expected at least 1; give a longer text or a shorter --context");
  if (windows.columns < 2) {
    fail(ErrorKind::kInvalidArgument, where, windows.source, ": windows of ", windows.columns,
         " tokens; expected at least 2, one to read and one to predict");
  }
  if (windows.columns > model.max_context()) {
    fail(ErrorKind::kInvalidArgument, where, windows.source, ": windows of ", windows.columns,
         " tokens; the model's context is ", model.max_context(), "; give --context ", model.max_context(),
         " or less");
  }
  const std::int64_t vocabulary = model.vocab_size();
  for (std::size_t i = 0; i < windows.ids.size(); ++i) {
    if (windows.ids[i] < 0 || windows.ids[i] >= vocabulary) {
      fail(ErrorKind::kInvalidArgument, where, windows.source, ": token id ", windows.ids[i], " at window ",
           static_cast<std::int64_t>(i) / windows.columns, ", position ",
           static_cast<std::int64_t>(i) % windows.columns, "; the model's vocabulary is ", vocabulary,
           "; is this the right tokenizer?");
    }
  }
}

void finish(Perplexity& result) {
  const double sum = std::accumulate(result.window_nll.begin(), result.window_nll.end(), 0.0);
  result.nll = sum / static_cast<double>(result.window_nll.size());
  result.ppl = std::exp(result.nll);
}

Perplexity perplexity(model::LanguageModel& model, const data::TokenWindows& windows,
                      const Progress& progress) {
  static constexpr char kWhere[] = "eval.perplexity";
  check_windows(model, windows, kWhere);
  const auto start = std::chrono::steady_clock::now();
  const auto vocabulary = static_cast<std::size_t>(model.vocab_size());
  const std::int64_t predictions = windows.columns - 1;
  Perplexity result;
  result.context = windows.columns;
  result.tokens = windows.rows * predictions;
  std::vector<double> losses(static_cast<std::size_t>(predictions));
  for (std::int64_t w = 0; w < windows.rows; ++w) {
    throw_if_interrupted(kWhere);
    const auto ids = windows.row(w);
    std::int64_t expected = 0;
    model.forward(ids, [&](std::int64_t first, std::int64_t rows, std::span<const float> logits) {
      CRUMB_CHECK(first == expected && logits.size() == static_cast<std::size_t>(rows) * vocabulary);
      expected += rows;
      parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
          const std::int64_t position = first + r;
          if (position >= predictions) continue;
          const double loss =
              cross_entropy(logits.subspan(static_cast<std::size_t>(r) * vocabulary, vocabulary),
                            ids[static_cast<std::size_t>(position) + 1]);
          if (!std::isfinite(loss)) {
            fail(ErrorKind::kNumerics, kWhere, "window ", w, ", position ", position, ": the loss is ", loss,
                 "; expected a finite number; the model's weights or its precision are at fault");
          }
          losses[static_cast<std::size_t>(position)] = loss;
        }
      });
    });
    CRUMB_CHECK(expected == windows.columns);
    result.window_nll.push_back(std::accumulate(losses.begin(), losses.end(), 0.0) /
                                static_cast<double>(predictions));
    if (progress) progress(w + 1, windows.rows);
  }
  finish(result);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

nlohmann::ordered_json to_json(const Perplexity& result) {
  nlohmann::ordered_json out;
  out["ppl"] = result.ppl;
  out["nll"] = result.nll;
  out["tokens"] = result.tokens;
  out["windows"] = result.window_nll.size();
  out["context"] = result.context;
  out["seconds"] = result.seconds;
  return out;
}

}  // namespace crumb::eval
