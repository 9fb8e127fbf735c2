#include "data/text_source.h"

#include <algorithm>

#include "base/cache_dir.h"
#include "base/error.h"

namespace crumb::data {

std::optional<TokenSpec> token_spec(const std::string& spec) {
  constexpr std::string_view ending = ".safetensors";
  const auto at = spec.rfind(ending);
  if (at == std::string::npos) return std::nullopt;
  const std::string rest = spec.substr(at + ending.size());
  if (!rest.empty() && rest[0] != ':') return std::nullopt;
  return TokenSpec{spec.substr(0, at + ending.size()), rest.empty() ? "" : rest.substr(1)};
}

const Tokenizer& need_tokenizer(const Tokenizer* tokenizer, const std::string& spec) {
  if (tokenizer == nullptr) {
    fail(ErrorKind::kNotFound, "data.text_source", spec,
         ": is text, and the model has no tokenizer; put tokenizer.json beside its weights, or give a "
         ".safetensors of token ids");
  }
  return *tokenizer;
}

// Text through a tokenizer that belongs to another model gives ids that the embedding does not have.
void check_ids(const TokenWindows& windows, std::int64_t vocab_size, const std::string& spec) {
  const auto bad = std::find_if(windows.ids.begin(), windows.ids.end(),
                                [&](std::int32_t id) { return id < 0 || id >= vocab_size; });
  if (bad == windows.ids.end()) return;
  fail(ErrorKind::kInvalidArgument, "data.text_source", spec, ": the tokenizer gives token id ", *bad,
       "; the model's vocabulary is ", vocab_size,
       "; the tokenizer files belong to another model: put the right ones beside the weights");
}

Corpus corpus_of(const std::string& spec, bool evaluation) {
  if (!is_named_corpus(spec)) return read_corpus(spec);
  const std::string_view split = !evaluation ? "train" : spec == "c4" ? "validation" : "test";
  return named_corpus(spec, split, cache_dir());
}

TokenWindows prepare_evaluation(const std::string& spec, const Tokenizer* tokenizer, std::int64_t vocab_size,
                                std::int64_t context, std::int64_t windows) {
  if (token_spec(spec)) {
    TokenWindows all = read_token_file(spec, context, vocab_size);
    const std::int64_t rows = windows > 0 ? std::min(windows, all.rows) : all.rows;
    return all.slice(0, rows, std::min(context, all.columns));
  }
  TokenWindows all =
      evaluation_windows(corpus_of(spec, true), need_tokenizer(tokenizer, spec), context, windows);
  check_ids(all, vocab_size, spec);
  return all;
}

}  // namespace crumb::data
