// Token windows: what calibration and evaluation read.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace crumb::data {

/// rows x columns token ids, row-major.
struct TokenWindows {
  std::int64_t rows = 0, columns = 0;
  std::vector<std::int32_t> ids;
  std::string source;  // what was asked for, for reports

  std::span<const std::int32_t> row(std::int64_t i) const { return {ids.data() + i * columns, static_cast<std::size_t>(columns)}; }
  /// SHA-256 over rows, columns and the ids as little-endian i32.
  std::string content_hash() const;
  /// Rows [begin, end), first `columns` tokens of each.
  TokenWindows slice(std::int64_t begin, std::int64_t end, std::int64_t new_columns) const;
};

/// A text corpus: one or more documents.
struct Corpus {
  std::vector<std::string> documents;
  std::string source;
};

/// .txt (one document), .jsonl (field "text" of each line), each also as .gz or .zst. Throws NotFound, Corrupt (line number), Io.
Corpus read_corpus(const std::filesystem::path& path);

/// A named corpus ("wikitext2", "c4", "redpajama"; wikitext2 with `split` "train" or "test", c4 "train" or "validation"): read from
/// `cache_dir` if present, else downloaded from the public hub. Throws NotFound with the URL and the file to put in place when that fails.
Corpus named_corpus(std::string_view name, std::string_view split, const std::filesystem::path& cache_dir);
bool is_named_corpus(std::string_view name);

enum class Selection {
  kRandomDocuments,  // the paper's rule: draw documents from the first 90 % (train) or last 10 % (validation) until one is longer than the
                     // window, then a uniform start. Python's random.Random(seed), so the choice equals the authors'.
  kSequential,       // documents concatenated in order, cut into windows, the remainder dropped
  kShuffledChunks,   // as sequential, then `count` chunks in a seeded random order (E2E-QP's packing)
};

/// Train windows first, then validation windows, from one random stream (as the authors draw them).
struct WindowSplit {
  TokenWindows train, validation;
};

/// Throws InvalidArgument when the corpus cannot give that many windows (found, asked, what to do).
WindowSplit select_windows(const Corpus& corpus, const Tokenizer& tokenizer, Selection selection, std::int64_t train_count,
                           std::int64_t validation_count, std::int64_t length, std::uint64_t seed);

/// Non-overlapping windows of one token stream for perplexity; `max_windows` 0 means all. Text documents are joined with "\n\n" for wikitext
/// files (see join_wikitext) and tokenized once.
TokenWindows evaluation_windows(const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t length, std::int64_t max_windows);

/// A .safetensors file of integer token ids, optionally FILE:NAME; a 1-D tensor is cut into windows of `length`, a 2-D one must have at least
/// `length` columns (0: its own). Ids are checked against vocab_size.
TokenWindows read_token_file(const std::string& spec, std::int64_t length, std::int64_t vocab_size);

}  // namespace crumb::data
