// A tokenizer.json of type BPE: normalizer, pre-tokenizer, merges, post-processor and decoder as the file
// writes them.
#pragma once
#include <unordered_map>

#include "data/added_tokens.h"
#include "data/bpe_model.h"
#include "data/normalizer.h"
#include "data/pre_tokenizer.h"
#include "data/special_ids.h"
#include "data/token_decoder.h"
#include "data/tokenizer.h"

namespace crumb::data {

class BpeTokenizer final : public Tokenizer {
 public:
  /// `json_text` is a whole tokenizer.json; GGUF, tiktoken and GPT-2 vocabularies come here as one too.
  /// "truncation" and "padding" of the file are settings of a caller and are not applied.
  BpeTokenizer(std::string json_text, std::string subject, const TokenizerConfig& config);

  std::vector<std::int32_t> encode(std::string_view text, bool add_special,
                                   bool parse_special) const override;
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override;
  std::string decode_bytes(std::span<const std::int32_t> ids, bool skip_special) const override;
  std::int64_t size() const override { return static_cast<std::int64_t>(tokens_.size()); }
  std::optional<std::int32_t> token_id(std::string_view token) const override;
  std::optional<std::int32_t> bos_id() const override { return special_.bos; }
  std::vector<std::int32_t> eos_ids() const override { return special_.eos; }
  std::string to_tokenizer_json() const override { return json_text_; }
  std::string to_tokenizer_config_json() const override { return config_text_; }

 private:
  struct WordCache;
  void read_added_tokens(const nlohmann::json& json);
  void read_post_processor(const nlohmann::json& json);
  std::vector<std::string> tokens_of(std::span<const std::int32_t> ids, bool skip_special) const;
  void encode_text(std::string_view text, bool at_text_start, WordCache& cache,
                   std::vector<std::int32_t>& out) const;

  std::string json_text_, config_text_, subject_;
  std::vector<std::unique_ptr<Normalizer>> normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<BpeModel> model_;
  TokenDecoder decoder_;
  AddedTokenMatcher raw_matcher_, normalized_matcher_;
  Vocabulary added_ids_;
  std::vector<std::int32_t> prefix_, suffix_;  // what the post-processor adds
  std::vector<std::string> tokens_;            // by id, "" where an id has no token
  std::vector<bool> present_, is_special_;
  SpecialIds special_;
};

}  // namespace crumb::data
