#include "eval/divergence.h"

#include <algorithm>
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
namespace {

constexpr char kWhere[] = "eval.divergence";

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Calls use(position, logits [V]) in parallel for the positions in [begin, end) of one forward pass.
template <class Use>
void for_positions(model::LanguageModel& model, std::span<const std::int32_t> ids, std::int64_t begin,
                   std::int64_t end, const Use& use) {
  const auto vocabulary = static_cast<std::size_t>(model.vocab_size());
  std::int64_t expected = 0;
  model.forward(ids, [&](std::int64_t first, std::int64_t rows, std::span<const float> logits) {
    CRUMB_CHECK(first == expected && logits.size() == static_cast<std::size_t>(rows) * vocabulary);
    expected += rows;
    const std::int64_t from = std::max(first, begin), to = std::min(first + rows, end);
    parallel_for(to - from, 8, [&](std::int64_t part_begin, std::int64_t part_end) {
      for (std::int64_t position = from + part_begin; position < from + part_end; ++position) {
        use(position, logits.subspan(static_cast<std::size_t>(position - first) * vocabulary, vocabulary));
      }
    });
  });
  CRUMB_CHECK(expected == static_cast<std::int64_t>(ids.size()));
}

void require_finite(double value, const char* of, std::int64_t window, std::int64_t position) {
  if (std::isfinite(value)) return;
  fail(ErrorKind::kNumerics, kWhere, "window ", window, ", position ", position, ": ", of, " is ", value,
       "; expected a finite number; the model's weights or its precision are at fault");
}

}  // namespace

double quantile(std::vector<double>& values, double q) {
  CRUMB_CHECK(!values.empty() && q >= 0 && q <= 1);
  const double rank = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(rank);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(low), values.end());
  const double below = values[low];
  if (low + 1 >= values.size()) return below;
  const double above = *std::min_element(values.begin() + static_cast<std::ptrdiff_t>(low) + 1, values.end());
  return below + (rank - static_cast<double>(low)) * (above - below);
}

Divergence divergence(model::LanguageModel& model, model::LanguageModel& reference,
                      const data::TokenWindows& windows, const Progress& progress,
                      std::int64_t reference_bytes) {
  if (model.vocab_size() != reference.vocab_size()) {
    fail(ErrorKind::kInvalidArgument, kWhere, "model and reference: vocabularies of ", model.vocab_size(),
         " and ", reference.vocab_size(), " tokens; expected the same; compare models of one family");
  }
  check_windows(model, windows, kWhere);
  check_windows(reference, windows, kWhere);
  const auto start = std::chrono::steady_clock::now();
  const auto vocabulary = static_cast<std::size_t>(model.vocab_size());
  const std::int64_t predictions = windows.columns - 1;
  const std::int64_t bytes_per_position = model.vocab_size() * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t slice = std::clamp<std::int64_t>(reference_bytes / bytes_per_position, 1, predictions);

  Divergence result;
  for (Perplexity* side : {&result.model, &result.reference}) {
    side->context = windows.columns;
    side->tokens = windows.rows * predictions;
  }
  std::vector<float> kept(static_cast<std::size_t>(slice) * vocabulary);
  std::vector<double> model_loss(static_cast<std::size_t>(predictions)), reference_loss(model_loss.size());
  std::vector<double> kl(static_cast<std::size_t>(result.model.tokens));
  std::vector<char> same(kl.size());

  for (std::int64_t w = 0; w < windows.rows; ++w) {
    const auto ids = windows.row(w);
    for (std::int64_t begin = 0; begin < predictions; begin += slice) {
      throw_if_interrupted(kWhere);
      const std::int64_t end = std::min(begin + slice, predictions);
      const auto kept_row = [&](std::int64_t position) {
        return std::span<float>(kept).subspan(static_cast<std::size_t>(position - begin) * vocabulary,
                                              vocabulary);
      };
      for_positions(reference, ids, begin, end, [&](std::int64_t position, std::span<const float> logits) {
        std::copy(logits.begin(), logits.end(), kept_row(position).begin());
        const double loss = cross_entropy(logits, ids[static_cast<std::size_t>(position) + 1]);
        require_finite(loss, "the reference's loss", w, position);
        reference_loss[static_cast<std::size_t>(position)] = loss;
      });
      for_positions(model, ids, begin, end, [&](std::int64_t position, std::span<const float> logits) {
        const double loss = cross_entropy(logits, ids[static_cast<std::size_t>(position) + 1]);
        require_finite(loss, "the loss", w, position);
        model_loss[static_cast<std::size_t>(position)] = loss;
        const auto at = static_cast<std::size_t>(w * predictions + position);
        kl[at] = kl_divergence(kept_row(position), logits);
        require_finite(kl[at], "the divergence", w, position);
        same[at] = argmax(kept_row(position)) == argmax(logits) ? 1 : 0;
      });
    }
    result.model.window_nll.push_back(mean(model_loss));
    result.reference.window_nll.push_back(mean(reference_loss));
    if (progress) progress(w + 1, windows.rows);
  }
  finish(result.model);
  finish(result.reference);
  result.top1_agreement =
      static_cast<double>(std::count(same.begin(), same.end(), 1)) / static_cast<double>(same.size());
  result.kl_mean = mean(kl);
  result.kl_p99 = quantile(kl, 0.99);
  result.model.seconds = result.reference.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

nlohmann::ordered_json to_json(const Divergence& result) {
  nlohmann::ordered_json out = to_json(result.model);
  out["kl_mean"] = result.kl_mean;
  out["kl_p99"] = result.kl_p99;
  out["top1_agreement"] = result.top1_agreement;
  out["reference_ppl"] = result.reference.ppl;
  return out;
}

}  // namespace crumb::eval
