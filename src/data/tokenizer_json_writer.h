// Writes a tokenizer.json. The text is put together piece by piece: a vocabulary of 128,000 entries must keep
// the order of its ids.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/added_tokens.h"

namespace crumb::data {

/// Sections are JSON texts, "null" where a tokenizer has none.
struct TokenizerJsonParts {
  std::string normalizer = "null", pre_tokenizer = "null", decoder = "null";
  std::vector<AddedToken> added_tokens;
  std::vector<std::pair<std::string, std::int32_t>> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;
  std::optional<std::string> unknown_token;
  bool fuse_unknown = false, byte_fallback = false, ignore_merges = false;
  std::optional<std::int32_t> bos, eos;  // added by a TemplateProcessing
  std::string post_processor = "null";   // used when neither is set
};

/// Throws Corrupt when a token is not UTF-8, naming `subject`.
std::string write_tokenizer_json(const TokenizerJsonParts& parts, std::string_view subject);

/// `text` as a JSON string, quotes included.
std::string json_string(std::string_view text);

}  // namespace crumb::data
