// What the files beside a tokenizer say about its special tokens.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data {

struct SpecialIds {
  std::optional<std::int32_t> bos;
  std::vector<std::int32_t> eos;  // any of them ends generation
};

/// One entry of tokenizer_config.json's "added_tokens_decoder".
struct ConfiguredToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;
};

/// Read from tokenizer_config.json, generation_config.json and config.json of one folder; each may be absent.
struct TokenizerConfig {
  std::string text = "{}";  // tokenizer_config.json as it is
  std::string bos_token, eos_token;
  std::optional<bool> add_bos, add_eos;
  std::vector<ConfiguredToken> added_tokens;
  std::optional<std::int32_t> bos_id;  // of generation_config.json, else config.json
  std::vector<std::int32_t> eos_ids;

  /// `token_id` looks a token up. EOS: generation_config.json, else config.json, together with eos_token.
  SpecialIds resolve(const std::function<std::optional<std::int32_t>(std::string_view)>& token_id) const;
};

/// Throws Corrupt when one of the files is no JSON object.
TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder);

}  // namespace crumb::data
