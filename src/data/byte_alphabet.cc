#include "data/byte_alphabet.h"

#include <array>
#include <vector>

#include "data/utf8.h"

namespace crumb::data {
namespace {

constexpr std::uint32_t kFirstShifted = 0x100;
constexpr std::size_t kShifted = 68;

struct Alphabet {
  std::array<std::string, 256> character;
  std::vector<int> byte_of;  // by code point, -1 where none

  Alphabet() : byte_of(kFirstShifted + kShifted, -1) {
    std::uint32_t next = kFirstShifted;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const std::uint32_t code_point = itself ? byte : next++;
      append_utf8(character[byte], code_point);
      byte_of[code_point] = static_cast<int>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet table;
  return table;
}

}  // namespace

const std::string& byte_character(std::uint8_t byte) {
  return alphabet().character[byte];
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) out += byte_character(static_cast<std::uint8_t>(c));
  return out;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  const std::vector<int>& byte_of = alphabet().byte_of;
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at);
    if (length == 0) return std::nullopt;
    const std::uint32_t c = utf8_code_point(text, at, length);
    if (c >= byte_of.size() || byte_of[c] < 0) return std::nullopt;
    out += static_cast<char>(byte_of[c]);
    at += length;
  }
  return out;
}

}  // namespace crumb::data
