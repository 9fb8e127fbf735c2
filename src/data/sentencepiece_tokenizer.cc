#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "data/token_decoder.h"
#include "data/utf8.h"

namespace crumb::data {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";
constexpr std::size_t kMostCachedWords = 1u << 20;

// No piece has a space mark after another character, so no merge can cross the beginning of a run of spaces.
bool words_are_independent(const SentencePieceModel& model) {
  if (model.algorithm != PieceAlgorithm::kBpe || !model.byte_fallback || !model.identity_normalizer ||
      model.remove_extra_whitespaces || !model.escape_whitespaces || model.whitespace_as_suffix) {
    return false;
  }
  return std::all_of(model.pieces.begin(), model.pieces.end(), [](const Piece& piece) {
    std::string_view rest = piece.text;
    while (rest.starts_with(kSpaceMark)) rest.remove_prefix(kSpaceMark.size());
    return rest.find(kSpaceMark) == std::string_view::npos;
  });
}

}  // namespace

struct SentencePieceTokenizer::WordCache {
  std::unordered_map<std::string, std::vector<std::int32_t>, StringHash, std::equal_to<>> ids;
};

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

SentencePieceTokenizer::SentencePieceTokenizer(std::string bytes, std::string subject,
                                               const TokenizerConfig& config)
    : subject_(std::move(subject)),
      config_text_(config.text),
      model_(parse_sentencepiece_model(bytes, subject_)),
      pieces_(model_.pieces),
      processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()),
      add_bos_(config.add_bos.value_or(true)),
      add_eos_(config.add_eos.value_or(false)),
      cuts_at_spaces_(words_are_independent(model_)) {
  const auto status = processor_->LoadFromSerializedProto(bytes);
  if (!status.ok()) {
    fail(ErrorKind::kCorrupt, "data.sentencepiece", subject_, ": libsentencepiece refuses it (",
         status.ToString(), "); want a SentencePiece model; get the file again");
  }
  for (const ConfiguredToken& token : config.added_tokens) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id < model_.pieces.size()) continue;
    if (id > model_.pieces.size() + (1u << 20)) {
      fail(ErrorKind::kCorrupt, "data.sentencepiece", subject_, ": added token '", token.content, "' has id ",
           id, " far beyond the ", model_.pieces.size(), " pieces; get tokenizer_config.json again");
    }
    while (pieces_.size() <= id) pieces_.push_back({"", 0, PieceType::kUnused});
    pieces_[id] = {token.content, 0, token.special ? PieceType::kControl : PieceType::kUserDefined};
  }
  std::vector<AddedTokenMatcher::Entry> entries;
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    if (piece.text.empty()) continue;
    ids_.emplace(piece.text, static_cast<std::int32_t>(i));
    const bool special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    const bool added = i >= model_.pieces.size() && piece.type == PieceType::kUserDefined;
    if (!special && !added) continue;
    AddedToken token;
    token.id = static_cast<std::int32_t>(i);
    token.content = piece.text;
    token.special = special;
    entries.push_back({piece.text, token});
  }
  matcher_ = AddedTokenMatcher(std::move(entries));
  special_ = config.resolve([this](std::string_view token) { return token_id(token); });
  if (!special_.bos && processor_->bos_id() >= 0) special_.bos = processor_->bos_id();
  if (special_.eos.empty() && processor_->eos_id() >= 0) special_.eos = {processor_->eos_id()};
}

std::optional<std::int32_t> SentencePieceTokenizer::token_id(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::int32_t> SentencePieceTokenizer::encode(std::string_view text, bool add_special,
                                                         bool parse_special) const {
  check_utf8_to_encode(text);
  std::vector<std::int32_t> out;
  if (add_special && add_bos_ && special_.bos) out.push_back(*special_.bos);
  WordCache cache;
  for (const Segment& segment : matcher_.split(text, parse_special)) {
    if (segment.id >= 0) {
      out.push_back(segment.id);
    } else {
      encode_text(text.substr(segment.begin, segment.end - segment.begin), cache, out);
    }
  }
  if (add_special && add_eos_ && !special_.eos.empty()) out.push_back(special_.eos.front());
  return out;
}

void SentencePieceTokenizer::encode_plain(std::string_view text, std::vector<std::int32_t>& out) const {
  std::vector<int> ids;
  const auto status = processor_->Encode(text, &ids);
  if (!status.ok()) {
    fail(ErrorKind::kUnsupported, "data.encode", subject_, ": libsentencepiece cannot encode ", text.size(),
         " bytes (", status.ToString(), "); split the text into smaller documents");
  }
  out.insert(out.end(), ids.begin(), ids.end());
}

// Where words are independent of each other, each is encoded once and remembered: 10 times the speed on
// prose. A word begins with its spaces; the first of them is what the model's dummy prefix puts there.
void SentencePieceTokenizer::encode_text(std::string_view text, WordCache& cache,
                                         std::vector<std::int32_t>& out) const {
  if (!cuts_at_spaces_) return encode_plain(text, out);
  const auto next_cut = [&text](std::size_t from) {
    for (std::size_t at = from; (at = text.find(' ', at)) != std::string_view::npos; ++at) {
      if (at + 1 == text.size()) break;
      if (at > 0 && text[at - 1] != ' ' && !text.substr(0, at).ends_with(kSpaceMark)) return at;
    }
    return text.size();
  };
  std::size_t at = next_cut(0);
  encode_plain(text.substr(0, at), out);
  while (at < text.size()) {
    const std::size_t end = next_cut(at + 1);
    const std::string_view word = text.substr(at, end - at);
    at = end;
    const auto found = cache.ids.find(word);
    if (found != cache.ids.end()) {
      out.insert(out.end(), found->second.begin(), found->second.end());
      continue;
    }
    const std::size_t before = out.size();
    encode_plain(model_.add_dummy_prefix ? word.substr(1) : word, out);
    if (cache.ids.size() < kMostCachedWords) {
      cache.ids.emplace(
          word, std::vector<std::int32_t>(out.begin() + static_cast<std::ptrdiff_t>(before), out.end()));
    }
  }
}

std::string SentencePieceTokenizer::decode_bytes(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string out;
  bool strip =
      model_
          .add_dummy_prefix;  // the first piece lost its place at the beginning of a word to the dummy prefix
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= size()) {
      fail(ErrorKind::kInvalidArgument, "data.decode", "token id ", id, ": want 0 to ", size() - 1,
           "; the ids are of another tokenizer, or the model's vocabulary is padded beyond it");
    }
    const Piece& piece = pieces_[static_cast<std::size_t>(id)];
    if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown) {
      if (!skip_special) out += piece.text;
      continue;
    }
    const int byte = piece.type == PieceType::kByte ? byte_token_value(piece.text) : -1;
    std::string_view text = piece.text;
    if (std::exchange(strip, false) && byte < 0 && text.starts_with(kSpaceMark))
      text.remove_prefix(kSpaceMark.size());
    if (byte >= 0) {
      out += static_cast<char>(byte);
      continue;
    }
    while (!text.empty()) {
      const std::size_t mark = std::min(text.find(kSpaceMark), text.size());
      out += text.substr(0, mark);
      if (mark == text.size()) break;
      out += ' ';
      text.remove_prefix(mark + kSpaceMark.size());
    }
  }
  return out;
}

std::string SentencePieceTokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  return replace_invalid_utf8(decode_bytes(ids, skip_special));
}

std::string SentencePieceTokenizer::to_tokenizer_json() const {
  const std::optional<std::int32_t> eos =
      special_.eos.empty() ? std::nullopt : std::optional(special_.eos.front());
  return sentencepiece_to_tokenizer_json(model_, pieces_, add_bos_ ? special_.bos : std::nullopt,
                                         add_eos_ ? eos : std::nullopt, subject_);
}

}  // namespace crumb::data
