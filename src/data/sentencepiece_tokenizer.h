// A SentencePiece model, run by libsentencepiece; special tokens, BOS and decoding are done here.
#pragma once
#include <memory>

#include "data/added_tokens.h"
#include "data/bpe_model.h"
#include "data/sentencepiece_proto.h"
#include "data/special_ids.h"
#include "data/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace crumb::data {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  /// `bytes` is the model file. Tokens that the model lacks come from config.added_tokens. Each part of the
  /// text between special tokens gets the model's own dummy prefix, as the original Llama tokenizer
  /// ("legacy") and llama.cpp do.
  SentencePieceTokenizer(std::string bytes, std::string subject, const TokenizerConfig& config);
  ~SentencePieceTokenizer() override;

  std::vector<std::int32_t> encode(std::string_view text, bool add_special,
                                   bool parse_special) const override;
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override;
  std::string decode_bytes(std::span<const std::int32_t> ids, bool skip_special) const override;
  std::int64_t size() const override { return static_cast<std::int64_t>(pieces_.size()); }
  std::optional<std::int32_t> token_id(std::string_view token) const override;
  std::optional<std::int32_t> bos_id() const override { return special_.bos; }
  std::vector<std::int32_t> eos_ids() const override { return special_.eos; }
  /// Throws Unsupported for a unigram model or one that rewrites characters: BPE merges cannot say the same.
  std::string to_tokenizer_json() const override;
  std::string to_tokenizer_config_json() const override { return config_text_; }

 private:
  struct WordCache;
  void encode_plain(std::string_view text, std::vector<std::int32_t>& out) const;
  void encode_text(std::string_view text, WordCache& cache, std::vector<std::int32_t>& out) const;

  std::string subject_, config_text_;
  SentencePieceModel model_;
  std::vector<Piece> pieces_;  // the model's, then added tokens
  Vocabulary ids_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  AddedTokenMatcher matcher_;
  SpecialIds special_;
  bool add_bos_ = true, add_eos_ = false;
  bool cuts_at_spaces_ = false;  // see encode_text
};

/// A tokenizer.json that gives the same ids as a SentencePiece BPE model: "▁" for spaces, merges found from
/// the scores, bytes for unknown characters. `bos` is prepended by its post-processor when set.
std::string sentencepiece_to_tokenizer_json(const SentencePieceModel& model, const std::vector<Piece>& pieces,
                                            std::optional<std::int32_t> bos, std::optional<std::int32_t> eos,
                                            std::string_view subject);

}  // namespace crumb::data
