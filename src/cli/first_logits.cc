#include "cli/first_logits.h"

#include "io/safetensors.h"

namespace crumb::cli {

void FirstLogits::forward(std::span<const std::int32_t> tokens, const LogitsSink& sink) {
  if (!tokens_.empty()) return model_.forward(tokens, sink);
  tokens_.assign(tokens.begin(), tokens.end());
  logits_.reserve(tokens.size() * static_cast<std::size_t>(vocab_size()));
  model_.forward(tokens, [&](std::int64_t first, std::int64_t rows, std::span<const float> logits) {
    logits_.insert(logits_.end(), logits.begin(), logits.end());
    if (sink) sink(first, rows, logits);
  });
}

void FirstLogits::write(const std::filesystem::path& path) const {
  const auto n = static_cast<std::int64_t>(tokens_.size());
  io::write_safetensors_atomically(
      path,
      {{"tokens", DType::kI32, {n}, [&] { return io::bytes_of(std::span<const std::int32_t>(tokens_)); }},
       {"logits",
        DType::kF32,
        {n, vocab_size()},
        [&] { return io::bytes_of(std::span<const float>(logits_)); }}},
      {});
}

}  // namespace crumb::cli
