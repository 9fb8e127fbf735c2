// The "decoder" of a tokenizer.json: tokens back to bytes.
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data {

/// One step, tokens in, tokens out. With `raw`, bytes that are no valid UTF-8 are kept (for decoding a stream
/// token by token); without it ByteFallback turns each byte of an invalid run into U+FFFD, as the reference
/// implementation does.
class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  virtual void apply(std::vector<std::string>& tokens, bool raw) const = 0;
};

/// All steps. Known: Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace. No decoder at all
/// joins tokens with spaces.
class TokenDecoder {
 public:
  TokenDecoder() = default;
  TokenDecoder(const nlohmann::json& json, std::string_view subject);
  std::string decode(std::vector<std::string> tokens, bool raw) const;

 private:
  void add(const nlohmann::json& json, std::string_view subject);
  std::vector<std::unique_ptr<DecoderStep>> steps_;
  bool joins_with_space_ = true;
};

/// The byte of "<0xNN>", or -1.
int byte_token_value(std::string_view token);

}  // namespace crumb::data
