#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "data/sentencepiece_tokenizer.h"
#include "data/tokenizer_json_writer.h"
#include "data/utf8.h"

namespace crumb::data {
namespace {

struct ScoredMerge {
  float score;
  std::int32_t id, left, right;
};

// SentencePiece merges the two neighbors whose joined piece has the best score. A table of merges says the
// same when it lists every way to split every piece into two, best pieces first.
std::vector<ScoredMerge> find_merges(const std::vector<Piece>& pieces, const Vocabulary& ids) {
  std::vector<ScoredMerge> merges;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].type != PieceType::kNormal && pieces[i].type != PieceType::kUserDefined) continue;
    const std::string_view text = pieces[i].text;
    for (std::size_t at = text.empty() ? 0 : utf8_length(text, 0); at > 0 && at < text.size();
         at += utf8_length(text, at)) {
      const auto left = ids.find(text.substr(0, at)), right = ids.find(text.substr(at));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back({pieces[i].score, static_cast<std::int32_t>(i), left->second, right->second});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const ScoredMerge& a, const ScoredMerge& b) {
    return std::make_tuple(-a.score, a.id, a.left, a.right) <
           std::make_tuple(-b.score, b.id, b.left, b.right);
  });
  return merges;
}

}  // namespace

std::string sentencepiece_to_tokenizer_json(const SentencePieceModel& model, const std::vector<Piece>& pieces,
                                            std::optional<std::int32_t> bos, std::optional<std::int32_t> eos,
                                            std::string_view subject) {
  if (model.algorithm != PieceAlgorithm::kBpe || !model.identity_normalizer ||
      model.remove_extra_whitespaces) {
    fail(ErrorKind::kUnsupported, "data.tokenizer_json", subject,
         ": a SentencePiece model that is unigram, rewrites characters or removes spaces; a tokenizer.json "
         "of crumb can only say BPE with none of "
         "these; keep tokenizer.model beside the weights instead");
  }
  TokenizerJsonParts parts;
  const std::string replace = R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})";
  parts.normalizer =
      model.add_dummy_prefix
          ? R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, )" + replace + "]}"
          : replace;
  parts.decoder =
      R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, )"
      R"({"type": "ByteFallback"}, {"type": "Fuse"})";
  if (model.add_dummy_prefix)
    parts.decoder += R"(, {"type": "Strip", "content": " ", "start": 1, "stop": 0})";
  parts.decoder += "]}";
  Vocabulary ids;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    const auto id = static_cast<std::int32_t>(i);
    if (piece.text.empty()) continue;
    ids.emplace(piece.text, id);
    const bool special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    if (special || piece.type == PieceType::kUserDefined) {
      AddedToken token;
      token.id = id;
      token.content = piece.text;
      token.special = special;
      parts.added_tokens.push_back(token);
    }
    if (i < model.pieces.size()) parts.vocabulary.emplace_back(piece.text, id);
    if (piece.type == PieceType::kUnknown) parts.unknown_token = piece.text;
  }
  for (const ScoredMerge& merge : find_merges(model.pieces, ids)) {
    parts.merges.emplace_back(pieces[static_cast<std::size_t>(merge.left)].text,
                              pieces[static_cast<std::size_t>(merge.right)].text);
  }
  parts.fuse_unknown = true;
  parts.byte_fallback = model.byte_fallback;
  parts.bos = bos;
  parts.eos = eos;
  return write_tokenizer_json(parts, subject);
}

}  // namespace crumb::data
