// Pre-tokenizers that GGUF files name in tokenizer.ggml.pre, as the sections of a tokenizer.json.
#pragma once
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

}  // namespace crumb::data
