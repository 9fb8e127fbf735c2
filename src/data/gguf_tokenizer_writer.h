// A model's tokenizer as GGUF metadata. docs/tokenizers.md, docs/formats/gguf.md.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "io/gguf.h"

namespace crumb::data {

/// tokenizer.ggml.* and tokenizer.chat_template of whatever Tokenizer::open reads: byte-level BPE becomes
/// "gpt2" (tokens in the byte alphabet, merges, the pre-tokenizer's name), byte-fallback BPE with "▁" for
/// spaces becomes "llama" (a score for each token). From a GGUF file its own keys, as they are.
///
/// vocab_size  rows of the model's embedding: ids without a token become "[PAD<id>]", unused
///
/// Throws as Tokenizer::open; Unsupported where GGUF cannot say what the tokenizer does (an unknown
/// pre-tokenizer, a normalizer other than NFC, ids other than BOS before a text, merges in an order that no
/// scores give), since the ids would be plausible and wrong; Corrupt when the tokenizer has more ids than the
/// model rows. What llama.cpp does otherwise in rare texts is logged as a warning: it never normalizes to
/// NFC, and has no white-space rules of added tokens.
std::vector<std::pair<std::string, io::GgufValue>> gguf_tokenizer_metadata(const std::filesystem::path& model,
                                                                           std::int64_t vocab_size);

}  // namespace crumb::data
