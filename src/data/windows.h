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

  std::span<const std::int32_t> row(std::int64_t i) const {
    return {ids.data() + i * columns, static_cast<std::size_t>(columns)};
  }
  /// SHA-256 over rows and columns (little-endian i64) and the ids (little-endian i32).
  std::string content_hash() const;
  /// Rows [begin, end), first `columns` tokens of each.
  TokenWindows slice(std::int64_t begin, std::int64_t end, std::int64_t new_columns) const;
};

/// A text corpus: one or more documents.
struct Corpus {
  std::vector<std::string> documents;
  std::string source;
  bool evaluate_by_crops =
      false;  // C4's perplexity: random crops of documents, seed 0 (see evaluation_windows)
};

/// The text that the published wikitext dataset gives for a wiki.*.raw file: one row per line with its
/// newline, rows of white space only empty, joined with "\n\n". This is the form behind published
/// perplexities.
std::string join_wikitext(std::string_view raw);

/// .txt (one document), .jsonl (field "text" of each line), each also as .gz or .zst. A file
/// called wiki.{train,valid,test}.raw is brought into the form of join_wikitext. .json means JSONL too (C4's
/// files are named so). Throws NotFound, Io, Corrupt: no text at all, text that is not UTF-8 (the byte), a
/// bad line (its number).
Corpus read_corpus(const std::filesystem::path& path);

/// A named corpus ("wikitext2", "c4", "redpajama"; wikitext2 with `split` "train" or "test", c4 "train" or
/// "validation"): read from `cache_dir` if present, else downloaded from the public hub. Throws NotFound with
/// the URL and the file to put in place when that fails.
Corpus named_corpus(std::string_view name, std::string_view split, const std::filesystem::path& cache_dir);
bool is_named_corpus(std::string_view name);

enum class Selection {
  kRandomDocuments,  // the paper's rule: draw documents from the first 90 % (train) or last 10 % (validation)
                     // until one is longer than the window, then a uniform start. Python's
                     // random.Random(seed), so the choice equals the authors'. A corpus of one document is
                     // treated as a stream: starts in the first 90 % of its tokens, then in the last 10 %.
  kSequential,      // documents concatenated in order, cut into windows, the remainder dropped
  kShuffledChunks,  // as sequential, then `count` chunks in a seeded random order (E2E-QP's packing: the
                    // remainder is dropped after every 1000 documents, the order is NumPy's
                    // default_rng(seed).permutation)
};

/// Train windows first, then validation windows, from one random stream (as the authors draw them).
struct WindowSplit {
  TokenWindows train, validation;
};

/// Throws InvalidArgument when the corpus cannot give that many windows (found, asked, what to do).
WindowSplit select_windows(const Corpus& corpus, const Tokenizer& tokenizer, Selection selection,
                           std::int64_t train_count, std::int64_t validation_count, std::int64_t length,
                           std::uint64_t seed);

/// Non-overlapping windows of one token stream for perplexity; `max_windows` 0 means all. Documents are
/// joined with "\n\n" and tokenized once; the tail that fills no window is dropped. A corpus with
/// evaluate_by_crops gives `max_windows` (0: 256) crops instead. Throws InvalidArgument when there is not one
/// window.
TokenWindows evaluation_windows(const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t length,
                                std::int64_t max_windows);

/// A .safetensors file of integer token ids, optionally FILE:NAME; a 1-D tensor is cut into windows of
/// `length`, a 2-D one must have at least `length` columns (0: its own). Ids are checked against vocab_size.
TokenWindows read_token_file(const std::string& spec, std::int64_t length, std::int64_t vocab_size);

}  // namespace crumb::data
