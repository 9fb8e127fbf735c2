// The alphabet of byte-level BPE: each of the 256 bytes is written as one printable character, so that a
// vocabulary file is text. 33-126, 161-172 and 174-255 stand for themselves; the other 68 bytes are U+0100
// upward, in order.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace crumb::data {

/// The UTF-8 of the character that stands for `byte`.
const std::string& byte_character(std::uint8_t byte);
/// Each byte of `bytes` as its character.
std::string to_byte_alphabet(std::string_view bytes);
/// The bytes that `text` stands for, or nullopt when a character is not of the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace crumb::data
