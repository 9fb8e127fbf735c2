// Text to token ids and back, exactly as the tokenizer's own library does it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data {

class Tokenizer {
 public:
  /// From an HF directory (tokenizer.json, else tokenizer.model, else vocab.json and merges.txt), a
  /// tokenizer.json, a SentencePiece .model, the Llama-3 tokenizer.model (lines of base64 token and rank), or
  /// a GGUF file. docs/tokenizers.md. Throws NotFound, Corrupt, Unsupported (a step that crumb does not know:
  /// named, never skipped).
  static std::unique_ptr<Tokenizer> open(const std::filesystem::path& path);
  virtual ~Tokenizer() = default;

  /// Throws InvalidArgument when `text` is not valid UTF-8 (the byte is named); nothing is replaced silently.
  /// Safe from several threads. `add_special`: BOS/EOS as the tokenizer's own post-processor adds them. Text
  /// of special tokens is parsed as such when `parse_special`.
  virtual std::vector<std::int32_t> encode(std::string_view text, bool add_special = true,
                                           bool parse_special = true) const = 0;
  /// Invalid ids throw InvalidArgument. `skip_special` leaves control tokens out.
  /// The text is valid UTF-8: bytes that form no character become U+FFFD. To decode a stream token by token
  /// use StreamDecoder.
  virtual std::string decode(std::span<const std::int32_t> ids, bool skip_special = true) const = 0;
  /// As decode, but bytes that form no character (yet) are returned as they are.
  virtual std::string decode_bytes(std::span<const std::int32_t> ids, bool skip_special = true) const = 0;
  /// Number of ids, added tokens included; a model's vocab_size may be larger (padding rows), never smaller.
  virtual std::int64_t size() const = 0;
  virtual std::optional<std::int32_t> token_id(std::string_view token) const = 0;
  virtual std::optional<std::int32_t> bos_id() const = 0;
  virtual std::vector<std::int32_t> eos_ids() const = 0;

  /// A tokenizer.json (and tokenizer_config.json) with the same behavior, for output directories of models
  /// that came as GGUF.
  virtual std::string to_tokenizer_json() const = 0;
  virtual std::string to_tokenizer_config_json() const = 0;
};

/// Both by the names of their files.
inline std::map<std::string, std::string> tokenizer_files(const Tokenizer& tokenizer) {
  return {{"tokenizer.json", tokenizer.to_tokenizer_json()},
          {"tokenizer_config.json", tokenizer.to_tokenizer_config_json()}};
}

}  // namespace crumb::data
