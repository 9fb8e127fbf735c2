// Pre-tokenizers that GGUF files name in tokenizer.ggml.pre, as the sections of a tokenizer.json.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace crumb::data {

struct NamedPreTokenizer {
  std::string normalizer;     // JSON
  std::string pre_tokenizer;  // JSON
  bool ignore_merges = false;
  bool add_bos = false;  // when tokenizer.ggml.add_bos_token is absent
};

/// Throws Unsupported with the names that are known: a wrong pre-tokenizer gives plausible, wrong ids.
/// "default" and "" mean a file that was converted without knowing its pre-tokenizer; they get llama.cpp's
/// rule for them and a warning.
NamedPreTokenizer named_pre_tokenizer(std::string_view name, std::string_view subject);

/// The inverse: the name whose rule is this "pre_tokenizer" of a tokenizer.json, fields that do not matter
/// for ids left aside. nullopt when no name of the table has it.
std::optional<std::string_view> find_pre_tokenizer_name(const nlohmann::json& pre_tokenizer,
                                                        bool ignore_merges);

}  // namespace crumb::data
