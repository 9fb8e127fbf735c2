#include "data/windows.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/rng.h"
#include "data/numpy_random.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.select_windows";
constexpr double kTrainShare = 0.9;  // of the documents; the rest is for validation
constexpr std::int64_t kPackedDocuments =
    1000;                             // E2E-QP's packing drops the remainder after as many documents
constexpr std::int64_t kCrops = 256;  // of the C4 perplexity of the paper's code
constexpr std::uint64_t kCropSeed = 0;

[[noreturn]] void fail_short(const Corpus& corpus, std::int64_t found, std::int64_t asked,
                             std::int64_t length) {
  fail(ErrorKind::kInvalidArgument, kWhere, corpus.source, ": has ", found, " windows of ", length,
       " tokens; want ", asked, "; give more text, fewer samples or shorter windows");
}

void append(TokenWindows& windows, const std::vector<std::int32_t>& tokens, std::int64_t start) {
  windows.ids.insert(windows.ids.end(), tokens.begin() + start, tokens.begin() + start + windows.columns);
  ++windows.rows;
}

TokenWindows empty_windows(const Corpus& corpus, std::int64_t length) {
  TokenWindows windows;
  windows.columns = length;
  windows.source = corpus.source;
  return windows;
}

// Documents by number, tokenized when first asked for.
class TokenizedDocuments {
 public:
  TokenizedDocuments(const Corpus& corpus, const Tokenizer& tokenizer)
      : corpus_(corpus), tokenizer_(tokenizer) {}
  const std::vector<std::int32_t>& at(std::int64_t i) {
    const auto [entry, fresh] = tokens_.try_emplace(i);
    if (fresh) entry->second = tokenizer_.encode(corpus_.documents[static_cast<std::size_t>(i)]);
    return entry->second;
  }

 private:
  const Corpus& corpus_;
  const Tokenizer& tokenizer_;
  std::unordered_map<std::int64_t, std::vector<std::int32_t>> tokens_;
};

// One window as the paper's code draws it: documents from [first, last] until one has `needed` tokens, then a
// uniform start.
void draw_window(const Corpus& corpus, TokenizedDocuments& documents, PythonRandom& random,
                 std::int64_t first, std::int64_t last, std::int64_t needed, TokenWindows& out) {
  std::unordered_map<std::int64_t, bool> too_short;
  std::int64_t longest = 0;
  while (static_cast<std::int64_t>(too_short.size()) <= last - first) {
    const std::int64_t i = random.randint(first, last);
    const auto& tokens = documents.at(i);
    const auto size = static_cast<std::int64_t>(tokens.size());
    if (size >= needed) {
      append(out, tokens, random.randint(0, size - out.columns - 1));
      return;
    }
    longest = std::max(longest, size);
    too_short[i] = true;
  }
  fail(ErrorKind::kInvalidArgument, kWhere, corpus.source, ": documents ", first, " to ", last,
       " have at most ", longest, " tokens; want one of ", needed,
       "; use selection 'sequential', shorter windows or longer documents");
}

WindowSplit random_documents(const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t train_count,
                             std::int64_t validation_count, std::int64_t length, std::uint64_t seed) {
  WindowSplit split{empty_windows(corpus, length), empty_windows(corpus, length)};
  PythonRandom random(seed);
  TokenizedDocuments documents(corpus, tokenizer);
  const auto count = static_cast<std::int64_t>(corpus.documents.size());
  if (count == 1) {  // one long text: starts in the first 90 % of its tokens, then in the rest
    const auto& tokens = documents.at(0);
    const auto size = static_cast<std::int64_t>(tokens.size());
    const auto border = static_cast<std::int64_t>(static_cast<double>(size) * kTrainShare);
    if (train_count > 0 && border < length + 1) fail_short(corpus, 0, train_count, length);
    for (std::int64_t i = 0; i < train_count; ++i)
      append(split.train, tokens, random.randint(0, border - length - 1));
    if (validation_count > 0 && size - border < length + 1) {
      fail(ErrorKind::kInvalidArgument, kWhere, corpus.source, ": its last 10 % have ", size - border,
           " tokens; a validation window wants ", length + 1, "; give more text or shorter windows");
    }
    for (std::int64_t i = 0; i < validation_count; ++i)
      append(split.validation, tokens, random.randint(border, size - length - 1));
    return split;
  }
  const auto border = static_cast<std::int64_t>(static_cast<double>(count) * kTrainShare);
  for (std::int64_t i = 0; i < train_count; ++i)
    draw_window(corpus, documents, random, 0, border - 1, length + 1, split.train);
  for (std::int64_t i = 0; i < validation_count; ++i)
    draw_window(corpus, documents, random, border, count - 1, length + 1, split.validation);
  return split;
}

WindowSplit sequential(const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t train_count,
                       std::int64_t validation_count, std::int64_t length) {
  const auto wanted = static_cast<std::size_t>((train_count + validation_count) * length);
  std::vector<std::int32_t> stream;
  for (std::size_t i = 0; i < corpus.documents.size() && stream.size() < wanted; ++i) {
    const auto tokens = tokenizer.encode(corpus.documents[i]);
    stream.insert(stream.end(), tokens.begin(), tokens.end());
  }
  if (stream.size() < wanted)
    fail_short(corpus, static_cast<std::int64_t>(stream.size()) / length, train_count + validation_count,
               length);
  WindowSplit split{empty_windows(corpus, length), empty_windows(corpus, length)};
  for (std::int64_t i = 0; i < train_count; ++i) append(split.train, stream, i * length);
  for (std::int64_t i = 0; i < validation_count; ++i)
    append(split.validation, stream, (train_count + i) * length);
  return split;
}

WindowSplit shuffled_chunks(const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t train_count,
                            std::int64_t validation_count, std::int64_t length, std::uint64_t seed) {
  TokenWindows chunks = empty_windows(corpus, length);
  std::vector<std::int32_t> stream;
  const auto count = static_cast<std::int64_t>(corpus.documents.size());
  for (std::int64_t i = 0; i < count; ++i) {
    const auto tokens = tokenizer.encode(corpus.documents[static_cast<std::size_t>(i)]);
    stream.insert(stream.end(), tokens.begin(), tokens.end());
    if ((i + 1) % kPackedDocuments != 0 && i + 1 < count) continue;
    const std::int64_t rows = static_cast<std::int64_t>(stream.size()) / length;
    for (std::int64_t row = 0; row < rows; ++row) append(chunks, stream, row * length);
    stream.clear();
  }
  if (chunks.rows < train_count + validation_count)
    fail_short(corpus, chunks.rows, train_count + validation_count, length);
  const auto order = numpy_permutation(seed, chunks.rows);
  WindowSplit split{empty_windows(corpus, length), empty_windows(corpus, length)};
  for (std::int64_t i = 0; i < train_count + validation_count; ++i) {
    append(i < train_count ? split.train : split.validation, chunks.ids,
           order[static_cast<std::size_t>(i)] * length);
  }
  return split;
}

// The C4 perplexity of the paper's code: crops of documents that are longer than the window, seed 0.
TokenWindows crops(const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t length,
                   std::int64_t count) {
  TokenWindows windows = empty_windows(corpus, length);
  TokenizedDocuments documents(corpus, tokenizer);
  PythonRandom random(kCropSeed);
  // The code accepts a document of exactly `length` tokens and then fails to draw a start; such a document is
  // passed over here.
  for (std::int64_t i = 0; i < count; ++i) {
    draw_window(corpus, documents, random, 0, static_cast<std::int64_t>(corpus.documents.size()) - 1,
                length + 1, windows);
  }
  return windows;
}

}  // namespace

std::string TokenWindows::content_hash() const {
  std::string bytes;
  bytes.reserve(16 + ids.size() * 4);
  const auto put = [&bytes](std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFF);
  };
  put(static_cast<std::uint64_t>(rows), 8);
  put(static_cast<std::uint64_t>(columns), 8);
  for (const std::int32_t id : ids) put(static_cast<std::uint32_t>(id), 4);
  return sha256_hex(std::as_bytes(std::span(bytes)));
}

TokenWindows TokenWindows::slice(std::int64_t begin, std::int64_t end, std::int64_t new_columns) const {
  CRUMB_CHECK(begin >= 0 && begin <= end && end <= rows && new_columns >= 0 && new_columns <= columns);
  TokenWindows out;
  out.rows = end - begin;
  out.columns = new_columns;
  out.source = source;
  out.ids.reserve(static_cast<std::size_t>(out.rows * new_columns));
  for (std::int64_t i = begin; i < end; ++i) {
    const auto from = row(i).first(static_cast<std::size_t>(new_columns));
    out.ids.insert(out.ids.end(), from.begin(), from.end());
  }
  return out;
}

WindowSplit select_windows(const Corpus& corpus, const Tokenizer& tokenizer, Selection selection,
                           std::int64_t train_count, std::int64_t validation_count, std::int64_t length,
                           std::uint64_t seed) {
  if (train_count < 0 || validation_count < 0 || length < 1) {
    fail(ErrorKind::kInvalidArgument, kWhere, train_count, " train and ", validation_count,
         " validation windows of ", length,
         " tokens; want counts of 0 or more and at least 1 token; change the recipe");
  }
  if (corpus.documents.empty()) fail_short(corpus, 0, train_count + validation_count, length);
  switch (selection) {
    case Selection::kRandomDocuments:
      return random_documents(corpus, tokenizer, train_count, validation_count, length, seed);
    case Selection::kSequential:
      return sequential(corpus, tokenizer, train_count, validation_count, length);
    case Selection::kShuffledChunks:
      return shuffled_chunks(corpus, tokenizer, train_count, validation_count, length, seed);
  }
  CRUMB_CHECK(false);
  return {};
}

TokenWindows evaluation_windows(const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t length,
                                std::int64_t max_windows) {
  if (length < 2 || max_windows < 0) {
    fail(ErrorKind::kInvalidArgument, "data.evaluation_windows", "windows of ", length, " tokens, ",
         max_windows,
         " of them; want at least 2 tokens (one is predicted) and 0 or more windows; change --context or "
         "--windows");
  }
  if (corpus.documents.empty()) fail_short(corpus, 0, std::max<std::int64_t>(max_windows, 1), length);
  if (corpus.evaluate_by_crops)
    return crops(corpus, tokenizer, length, max_windows > 0 ? max_windows : kCrops);
  std::string joined;
  if (corpus.documents.size() > 1) {
    for (std::size_t i = 0; i < corpus.documents.size(); ++i)
      joined.append(i > 0 ? "\n\n" : "").append(corpus.documents[i]);
  }
  const auto tokens = tokenizer.encode(corpus.documents.size() > 1 ? joined : corpus.documents.front());
  std::int64_t rows = static_cast<std::int64_t>(tokens.size()) / length;
  if (rows == 0) {
    fail(ErrorKind::kInvalidArgument, "data.evaluation_windows", corpus.source, ": has ", tokens.size(),
         " tokens; one window wants ", length, "; give more text or a shorter --context");
  }
  if (max_windows > 0) rows = std::min(rows, max_windows);
  TokenWindows windows = empty_windows(corpus, length);
  for (std::int64_t i = 0; i < rows; ++i) append(windows, tokens, i * length);
  return windows;
}

}  // namespace crumb::data
