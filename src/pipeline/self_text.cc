#include "pipeline/self_text.h"

#include <algorithm>
#include <cmath>

#include "base/interrupt.h"
#include "base/log.h"
#include "base/rng.h"

namespace crumb::pipeline {
namespace {

constexpr std::int64_t kBatch = 64;  // sequences sampled together

// One draw from softmax(logits).
std::int32_t draw(std::span<const float> logits, double uniform) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x - top));
  double left = uniform * total;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    left -= std::exp(static_cast<double>(logits[i] - top));
    if (left < 0) return static_cast<std::int32_t>(i);
  }
  return static_cast<std::int32_t>(logits.size()) - 1;
}

}  // namespace

data::TokenWindows sample_self_text(model::LanguageModel& lm, const data::Tokenizer* tokenizer, std::int64_t count, std::int64_t length,
                                    std::uint64_t seed) {
  data::TokenWindows windows{count, length, std::vector<std::int32_t>(static_cast<std::size_t>(count * length)), "self"};
  const std::int64_t vocab = tokenizer == nullptr ? lm.vocab_size() : std::min(lm.vocab_size(), tokenizer->size());
  const auto bos = tokenizer == nullptr ? std::nullopt : tokenizer->bos_id();
  for (std::int64_t first = 0; first < count; first += kBatch) {
    const std::int64_t rows = std::min(kBatch, count - first);
    const auto session = lm.open_session(rows, length);
    std::vector<SplitMix64> random;  // one stream a row: a window does not depend on its neighbors
    std::vector<std::int32_t> next(static_cast<std::size_t>(rows));
    for (std::int64_t row = 0; row < rows; ++row) {
      random.emplace_back(seed * 1'000'003 + static_cast<std::uint64_t>(first + row));
      const double u = random.back().uniform();
      next[static_cast<std::size_t>(row)] = bos ? *bos : static_cast<std::int32_t>(u * static_cast<double>(vocab));
    }
    for (std::int64_t t = 0; t < length; ++t) {
      throw_if_interrupted("pipeline.self_text");
      for (std::int64_t row = 0; row < rows; ++row) windows.ids[static_cast<std::size_t>((first + row) * length + t)] = next[static_cast<std::size_t>(row)];
      if (t + 1 == length) break;
      const std::span<const float> logits = session->append(next, 1);
      for (std::int64_t row = 0; row < rows; ++row) {
        next[static_cast<std::size_t>(row)] =
            draw(logits.subspan(static_cast<std::size_t>(row * lm.vocab_size()), static_cast<std::size_t>(vocab)), random[static_cast<std::size_t>(row)].uniform());
      }
    }
    log::info("self text: ", first + rows, "/", count, " windows of ", length, " tokens");
  }
  return windows;
}

}  // namespace crumb::pipeline
