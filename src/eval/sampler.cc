#include "eval/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "eval/token_loss.h"

namespace crumb::eval {
namespace {

constexpr char kWhere[] = "eval.sampler";

bool likelier(const std::pair<float, std::int32_t>& a, const std::pair<float, std::int32_t>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

void check_logits(std::span<const float> logits) {
  bool bad = logits.empty();
  float maximum = -INFINITY;
  for (const float x : logits) {
    bad = bad || std::isnan(x);
    maximum = std::max(maximum, x);
  }
  if (bad || std::isinf(maximum)) {
    fail(ErrorKind::kNumerics, kWhere, "logits: NaN or infinity among ", logits.size(),
         "; expected finite numbers");
  }
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
  if (!std::isfinite(options.temperature) || options.temperature < 0) {
    fail(ErrorKind::kInvalidArgument, kWhere, "temperature is ", options.temperature,
         "; expected 0 (greedy) or a positive number");
  }
  if (options.top_k < 0)
    fail(ErrorKind::kInvalidArgument, kWhere, "top_k is ", options.top_k,
         "; expected 0 (all) or a positive number");
  if (!(options.top_p > 0 && options.top_p <= 1))
    fail(ErrorKind::kInvalidArgument, kWhere, "top_p is ", options.top_p, "; expected above 0, at most 1");
  if (!(options.min_p >= 0 && options.min_p <= 1))
    fail(ErrorKind::kInvalidArgument, kWhere, "min_p is ", options.min_p, "; expected 0 (off) to 1");
  if (!std::isfinite(options.repetition_penalty) || options.repetition_penalty <= 0) {
    fail(ErrorKind::kInvalidArgument, kWhere, "repetition_penalty is ", options.repetition_penalty,
         "; expected a positive number, 1 for none");
  }
}

void Sampler::observe(std::span<const std::int32_t> tokens) {
  if (options_.repetition_penalty != 1) seen_.insert(tokens.begin(), tokens.end());
}

std::int32_t Sampler::next(std::span<const float> logits) {
  check_logits(logits);
  if (!seen_.empty()) {
    penalized_.assign(logits.begin(), logits.end());
    const auto penalty = static_cast<float>(options_.repetition_penalty);
    for (const std::int32_t id : seen_) {
      if (id < 0 || static_cast<std::size_t>(id) >= penalized_.size()) continue;
      float& logit = penalized_[static_cast<std::size_t>(id)];
      logit = logit < 0 ? logit * penalty : logit / penalty;
    }
    logits = penalized_;
  }
  const std::int32_t token = options_.temperature == 0 ? argmax(logits) : draw(logits);
  observe({&token, 1});
  return token;
}

void Sampler::rank_more() {
  const std::size_t wanted = std::min(candidates_.size(), std::max<std::size_t>(64, 4 * ranked_));
  const auto at = [this](std::size_t i) { return candidates_.begin() + static_cast<std::ptrdiff_t>(i); };
  if (wanted < candidates_.size()) std::nth_element(at(ranked_), at(wanted), candidates_.end(), likelier);
  std::sort(at(ranked_), at(wanted), likelier);
  ranked_ = wanted;
}

double Sampler::weight(std::size_t rank) const {
  return std::exp((static_cast<double>(candidates_[rank].first) - candidates_[0].first) /
                  options_.temperature);
}

std::int32_t Sampler::draw(std::span<const float> logits) {
  candidates_.clear();
  for (std::size_t v = 0; v < logits.size(); ++v)
    candidates_.emplace_back(logits[v], static_cast<std::int32_t>(v));
  ranked_ = 0;
  rank_more();
  std::size_t count = candidates_.size();
  if (options_.top_k > 0) count = std::min(count, static_cast<std::size_t>(options_.top_k));
  while (ranked_ < count && count < candidates_.size()) rank_more();  // top-k cuts inside what must be ranked

  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += weight(i);
  if (options_.top_p < 1 || options_.min_p > 0) {
    double kept = 0;
    std::size_t n = 0;
    for (; n < count; ++n) {
      if (n == ranked_) rank_more();
      const double w = weight(n);
      if (n > 0 && (w < options_.min_p || (options_.top_p < 1 && kept >= options_.top_p * sum))) break;
      kept += w;
    }
    count = n;
    sum = kept;
  }
  double left = random_.uniform() * sum;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    if (i == ranked_) rank_more();
    left -= weight(i);
    if (left < 0) return candidates_[i].second;
  }
  while (ranked_ < count) rank_more();
  return candidates_[count - 1].second;
}

}  // namespace crumb::eval
