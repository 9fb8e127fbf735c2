// What --text, --eval and --calib name: a token file, a text, or a corpus by its name.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "data/tokenizer.h"
#include "data/windows.h"

namespace crumb::data {

/// FILE.safetensors[:NAME].
struct TokenSpec {
  std::string file, name;
};
/// nullopt when `spec` names no token file.
std::optional<TokenSpec> token_spec(const std::string& spec);

/// A text file, or a named corpus: its training part, or for evaluation its test part (c4: validation).
/// Throws as read_corpus and named_corpus.
Corpus corpus_of(const std::string& spec, bool evaluation);

/// Throws NotFound when there is none: `spec` is text then.
const Tokenizer& need_tokenizer(const Tokenizer* tokenizer, const std::string& spec);

/// Throws InvalidArgument when an id is outside of the vocabulary: the text went through another model's
/// tokenizer.
void check_ids(const TokenWindows& windows, std::int64_t vocab_size, const std::string& spec);

/// Windows to measure on; a token file without a name must hold one tensor. `windows` 0 means all.
TokenWindows prepare_evaluation(const std::string& spec, const Tokenizer* tokenizer, std::int64_t vocab_size,
                                std::int64_t context, std::int64_t windows);

}  // namespace crumb::data
