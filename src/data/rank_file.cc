#include <algorithm>
#include <array>
#include <charconv>
#include <tuple>

#include "base/error.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_alphabet.h"
#include "data/pre_tokenizer_names.h"
#include "data/tokenizer_json_writer.h"
#include "data/vocabulary_files.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.rank_file";
constexpr std::size_t kLlama3Ranks = 128000;
constexpr int kLlama3Special = 256;

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  std::string out;
  std::uint32_t bits = 0;
  int count = 0, padding = 0;
  for (const char c : text) {
    std::uint32_t value = 0;
    if (c == '=') {
      ++padding;
    } else if (padding > 0) {
      return std::nullopt;
    } else if (c >= 'A' && c <= 'Z') {
      value = static_cast<std::uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<std::uint32_t>(c - 'a') + 26;
    } else if (c >= '0' && c <= '9') {
      value = static_cast<std::uint32_t>(c - '0') + 52;
    } else if (c == '+' || c == '/') {
      value = c == '+' ? 62 : 63;
    } else {
      return std::nullopt;
    }
    bits = (bits << 6) | value;
    if (++count % 4 == 0) {
      for (int shift = 16; shift >= 0; shift -= 8) out += static_cast<char>((bits >> shift) & 0xFF);
      bits = 0;
    }
  }
  if (padding > 2) return std::nullopt;
  out.resize(out.size() - static_cast<std::size_t>(padding));
  return out;
}

std::vector<std::string> parse_ranks(std::string_view bytes, std::string_view subject) {
  std::vector<std::string> tokens;
  std::size_t line = 0;
  while (!bytes.empty()) {
    const std::size_t end = std::min(bytes.find('\n'), bytes.size());
    std::string_view text = bytes.substr(0, end);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    ++line;
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    const std::size_t space = text.find(' ');
    std::size_t rank = 0;
    std::optional<std::string> token;
    if (space != std::string_view::npos) {
      token = decode_base64(text.substr(0, space));
      const std::string_view number = text.substr(space + 1);
      const auto parsed = std::from_chars(number.data(), number.data() + number.size(), rank);
      if (parsed.ec != std::errc() || parsed.ptr != number.data() + number.size()) token.reset();
    }
    if (!token || rank != tokens.size()) {
      fail(ErrorKind::kCorrupt, kWhere, subject, ": line ", line, " is not a base64 token and the rank ",
           tokens.size(), "; get the file again");
    }
    tokens.push_back(std::move(*token));
  }
  return tokens;
}

// Merging by rank joins the two neighbors whose joined token has the lowest rank: every split of every token,
// in the order of ranks.
std::vector<std::pair<std::string, std::string>> merges_of(const std::vector<std::string>& tokens) {
  Vocabulary ids;
  for (std::size_t i = 0; i < tokens.size(); ++i) ids.emplace(tokens[i], static_cast<std::int32_t>(i));
  std::vector<std::pair<std::string, std::string>> merges;
  for (const std::string& token : tokens) {
    std::vector<std::pair<std::int32_t, std::int32_t>> splits;
    for (std::size_t at = 1; at < token.size(); ++at) {
      const auto left = ids.find(std::string_view(token).substr(0, at)),
                 right = ids.find(std::string_view(token).substr(at));
      if (left != ids.end() && right != ids.end()) splits.emplace_back(left->second, right->second);
    }
    std::sort(splits.begin(), splits.end());
    for (const auto& [left, right] : splits) {
      merges.emplace_back(to_byte_alphabet(tokens[static_cast<std::size_t>(left)]),
                          to_byte_alphabet(tokens[static_cast<std::size_t>(right)]));
    }
  }
  return merges;
}

// Llama 3's names for the 256 ids after the ranks.
std::vector<std::string> llama3_special_tokens() {
  const std::pair<int, const char*> kNamed[] = {{0, "<|begin_of_text|>"},
                                                {1, "<|end_of_text|>"},
                                                {6, "<|start_header_id|>"},
                                                {7, "<|end_header_id|>"},
                                                {9, "<|eot_id|>"}};
  std::vector<std::string> tokens(kLlama3Special);
  for (const auto& [at, name] : kNamed) tokens[static_cast<std::size_t>(at)] = name;
  int reserved = 0;
  for (std::string& token : tokens) {
    if (token.empty()) token = cat("<|reserved_special_token_", reserved++, "|>");
  }
  return tokens;
}

}  // namespace

bool looks_like_rank_file(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, std::min<std::size_t>(bytes.find('\n'), 256));
  const std::size_t space = line.find(' ');
  return space != std::string_view::npos && line.substr(space + 1).starts_with('0') &&
         decode_base64(line.substr(0, space)).has_value();
}

std::unique_ptr<Tokenizer> open_rank_file(std::string_view bytes, std::string_view subject,
                                          const TokenizerConfig& config) {
  const std::vector<std::string> ranks = parse_ranks(bytes, subject);
  if (ranks.size() != kLlama3Ranks) {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": a rank file of ", ranks.size(),
         " tokens; crumb knows the one of Llama 3 (", kLlama3Ranks,
         "), such a file does not say how to split text; use the tokenizer.json of this model");
  }
  const NamedPreTokenizer rule = named_pre_tokenizer("llama-bpe", subject);
  TokenizerJsonParts parts;
  parts.pre_tokenizer = rule.pre_tokenizer;
  parts.ignore_merges = rule.ignore_merges;
  parts.decoder =
      R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})";
  for (std::size_t i = 0; i < ranks.size(); ++i)
    parts.vocabulary.emplace_back(to_byte_alphabet(ranks[i]), static_cast<std::int32_t>(i));
  parts.merges = merges_of(ranks);
  for (const std::string& content : llama3_special_tokens()) {
    AddedToken token;
    token.id = static_cast<std::int32_t>(kLlama3Ranks + parts.added_tokens.size());
    token.content = content;
    token.special = true;
    parts.added_tokens.push_back(token);
  }
  parts.bos = static_cast<std::int32_t>(kLlama3Ranks);
  TokenizerConfig complete = config;
  if (complete.text == "{}") {
    complete.text =
        "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"clean_up_tokenization_spaces\": false,\n"
        "  \"bos_token\": \"<|begin_of_text|>\",\n  \"eos_token\": \"<|end_of_text|>\"\n}\n";
  }
  if (complete.bos_token.empty()) complete.bos_token = "<|begin_of_text|>";
  if (complete.eos_token.empty() && complete.eos_ids.empty()) complete.eos_token = "<|end_of_text|>";
  return std::make_unique<BpeTokenizer>(write_tokenizer_json(parts, subject), std::string(subject), complete);
}

}  // namespace crumb::data
