// The parts of a SentencePiece model file that crumb reads and writes itself: pieces with their types, and
// the white-space rules. The file is a protocol-buffer message (sentencepiece_model.proto of the
// SentencePiece project); field numbers are in the source.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data {

/// The numbers are those of the file, and of GGUF's tokenizer.ggml.token_type.
enum class PieceType : int {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

enum class PieceAlgorithm : int { kUnigram = 1, kBpe = 2 };

struct SentencePieceModel {
  std::vector<Piece> pieces;
  PieceAlgorithm algorithm = PieceAlgorithm::kUnigram;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool byte_fallback = false;
  bool escape_whitespaces = true;                   // a space becomes "▁"
  bool whitespace_as_suffix = false;                // "▁" ends words instead of beginning them
  bool identity_normalizer = true;                  // no table of character replacements
  std::int32_t unk_id = 0, bos_id = 1, eos_id = 2;  // -1: none
};

/// Throws Corrupt: cut short, no pieces, an unknown piece type.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes, std::string_view subject);

/// A model file with these pieces, BPE or unigram, without character replacements.
std::string serialize_sentencepiece_model(const SentencePieceModel& model);

}  // namespace crumb::data
