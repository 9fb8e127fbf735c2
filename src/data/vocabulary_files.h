// Vocabularies that are no tokenizer.json, brought into that form.
#pragma once
#include <filesystem>
#include <memory>
#include <string_view>

#include "data/special_ids.h"
#include "data/tokenizer.h"

namespace crumb::data {

/// A GGUF file's tokenizer.ggml.* metadata: model "gpt2" (byte-level BPE) or "llama" (SentencePiece pieces
/// with scores). Throws NotFound without a tokenizer, Corrupt (lengths differ, a token twice), Unsupported
/// (another model, an unknown pre-tokenizer).
std::unique_ptr<Tokenizer> open_gguf_tokenizer(const std::filesystem::path& path);

/// Llama-3's tokenizer.model: one line of base64 token and rank for each of 128,000 tokens; the special
/// tokens after them are known.
bool looks_like_rank_file(std::string_view bytes);
std::unique_ptr<Tokenizer> open_rank_file(std::string_view bytes, std::string_view subject,
                                          const TokenizerConfig& config);

/// GPT-2's vocab.json and merges.txt of one folder.
std::unique_ptr<Tokenizer> open_vocab_and_merges(const std::filesystem::path& vocab,
                                                 const std::filesystem::path& merges,
                                                 const TokenizerConfig& config);

}  // namespace crumb::data
