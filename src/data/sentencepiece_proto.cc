#include "data/sentencepiece_proto.h"

#include <bit>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "data/utf8.h"

namespace crumb::data {
namespace {

// Field numbers of ModelProto and its parts.
constexpr std::uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3;
constexpr std::uint32_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr std::uint32_t kModelType = 3, kWhitespaceAsSuffix = 24, kByteFallback = 35, kUnkId = 40,
                        kBosId = 41, kEosId = 42;
constexpr std::uint32_t kCharsMap = 2, kAddDummyPrefix = 3, kRemoveExtraWhitespaces = 4,
                        kEscapeWhitespaces = 5;
constexpr std::uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

struct Field {
  std::uint32_t number = 0, wire = 0;
  std::uint64_t value = 0;
  std::string_view bytes;
};

class Reader {
 public:
  Reader(std::string_view bytes, std::string_view subject) : bytes_(bytes), subject_(subject) {}

  std::optional<Field> next() {
    if (at_ == bytes_.size()) return std::nullopt;
    Field field;
    const std::uint64_t tag = varint();
    field.number = static_cast<std::uint32_t>(tag >> 3);
    field.wire = static_cast<std::uint32_t>(tag & 7);
    if (field.number == 0) bad("a field has number 0");
    if (field.wire == kVarint) {
      field.value = varint();
    } else if (field.wire == kFixed64 || field.wire == kFixed32) {
      const std::string_view raw = take(field.wire == kFixed64 ? 8 : 4);
      for (std::size_t i = raw.size(); i-- > 0;)
        field.value = (field.value << 8) | static_cast<std::uint8_t>(raw[i]);
    } else if (field.wire == kBytes) {
      field.bytes = take(varint());
    } else {
      bad("a field has an unknown wire type");
    }
    return field;
  }

  [[noreturn]] void bad(std::string_view reason) const {
    fail(ErrorKind::kCorrupt, "data.sentencepiece", subject_, ": ", reason, " at byte ", at_,
         " of a part of ", bytes_.size(), " bytes; want a SentencePiece model; get the file again");
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7Fu) << shift;
      if (byte < 0x80) return value;
    }
    bad("a number is too long");
  }
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size() - at_) bad("the data ends too early");
    const std::string_view part = bytes_.substr(at_, static_cast<std::size_t>(size));
    at_ += static_cast<std::size_t>(size);
    return part;
  }

  std::string_view bytes_, subject_;
  std::size_t at_ = 0;
};

void put_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>((value & 0x7F) | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

void put_number(std::string& out, std::uint32_t number, std::int64_t value) {
  put_varint(out, (number << 3) | kVarint);
  put_varint(out, static_cast<std::uint64_t>(value));
}

void put_bytes(std::string& out, std::uint32_t number, std::string_view bytes) {
  put_varint(out, (number << 3) | kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

Piece parse_piece(std::string_view bytes, std::string_view subject) {
  Piece piece;
  Reader reader(bytes, subject);
  while (const auto field = reader.next()) {
    if (field->number == kPieceText && field->wire == kBytes) piece.text = field->bytes;
    if (field->number == kPieceScore && field->wire == kFixed32)
      piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field->value));
    if (field->number == kPieceType && field->wire == kVarint) {
      if (field->value < 1 || field->value > 6) reader.bad("a piece has an unknown type");
      piece.type = static_cast<PieceType>(field->value);
    }
  }
  if (find_invalid_utf8(piece.text) != std::string::npos) reader.bad("a piece is not UTF-8");
  return piece;
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, std::string_view subject) {
  SentencePieceModel model;
  Reader reader(bytes, subject);
  while (const auto part = reader.next()) {
    if (part->wire != kBytes) continue;
    if (part->number == kPieces) {
      model.pieces.push_back(parse_piece(part->bytes, subject));
    } else if (part->number == kTrainer) {
      Reader trainer(part->bytes, subject);
      while (const auto field = trainer.next()) {
        if (field->wire != kVarint) continue;
        const auto id = static_cast<std::int32_t>(static_cast<std::int64_t>(field->value));
        if (field->number == kModelType) model.algorithm = static_cast<PieceAlgorithm>(id);
        if (field->number == kWhitespaceAsSuffix) model.whitespace_as_suffix = id != 0;
        if (field->number == kByteFallback) model.byte_fallback = id != 0;
        if (field->number == kUnkId) model.unk_id = id;
        if (field->number == kBosId) model.bos_id = id;
        if (field->number == kEosId) model.eos_id = id;
      }
    } else if (part->number == kNormalizer) {
      Reader normalizer(part->bytes, subject);
      while (const auto field = normalizer.next()) {
        if (field->number == kCharsMap && !field->bytes.empty()) model.identity_normalizer = false;
        if (field->number == kAddDummyPrefix) model.add_dummy_prefix = field->value != 0;
        if (field->number == kEscapeWhitespaces) model.escape_whitespaces = field->value != 0;
        if (field->number == kRemoveExtraWhitespaces) model.remove_extra_whitespaces = field->value != 0;
      }
    }
  }
  if (model.pieces.empty()) reader.bad("no pieces");
  return model;
}

std::string serialize_sentencepiece_model(const SentencePieceModel& model) {
  std::string out;
  for (const Piece& piece : model.pieces) {
    std::string part;
    put_bytes(part, kPieceText, piece.text);
    const auto score = std::bit_cast<std::uint32_t>(piece.score);
    put_varint(part, (kPieceScore << 3) | kFixed32);
    for (int shift = 0; shift < 32; shift += 8) part += static_cast<char>((score >> shift) & 0xFF);
    put_number(part, kPieceType, static_cast<int>(piece.type));
    put_bytes(out, kPieces, part);
  }
  std::string trainer;
  put_number(trainer, kModelType, static_cast<int>(model.algorithm));
  put_number(trainer, kByteFallback, model.byte_fallback ? 1 : 0);
  put_number(trainer, kUnkId, model.unk_id);
  put_number(trainer, kBosId, model.bos_id);
  put_number(trainer, kEosId, model.eos_id);
  put_bytes(out, kTrainer, trainer);
  std::string normalizer;
  put_bytes(normalizer, 1, "identity");
  put_number(normalizer, kAddDummyPrefix, model.add_dummy_prefix ? 1 : 0);
  put_number(normalizer, kRemoveExtraWhitespaces, model.remove_extra_whitespaces ? 1 : 0);
  put_bytes(out, kNormalizer, normalizer);
  return out;
}

}  // namespace crumb::data
