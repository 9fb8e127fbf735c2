// UTF-8 as the tokenizers need it: strict validation, the standard replacement of bad bytes, code points one
// by one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace crumb::data {

/// Bytes of the character that starts at `text[at]`: 1 to 4, or 0 when the bytes there are no valid character
/// (overlong forms, surrogates and code points above U+10FFFF are not valid). `at` < text.size().
std::size_t utf8_length(std::string_view text, std::size_t at);

/// The code point of the valid character at `at`, which has `length` bytes.
std::uint32_t utf8_code_point(std::string_view text, std::size_t at, std::size_t length);

/// Offset of the first byte that is not valid UTF-8, or npos.
std::size_t find_invalid_utf8(std::string_view text);

/// Throws InvalidArgument, naming the first bad byte, unless `text` is valid UTF-8: what every encoder asks
/// first.
void check_utf8_to_encode(std::string_view text);

/// Each maximal part that is no valid character becomes one U+FFFD, as Unicode 3.9 (table 3-8) recommends and
/// Rust's from_utf8_lossy does.
std::string replace_invalid_utf8(std::string_view text);

/// Length of the longest prefix that does not end inside a character: bytes of an unfinished last character
/// are left for later.
std::size_t complete_utf8_prefix(std::string_view text);

void append_utf8(std::string& out, std::uint32_t code_point);

/// Unicode White_Space (what \s means to the tokenizers), and general category N* (Rust's char::is_numeric).
bool is_white_space(std::uint32_t code_point);
bool is_numeric(std::uint32_t code_point);
/// ASCII punctuation or general category P*.
bool is_punctuation(std::uint32_t code_point);
/// A character of a word: alphanumeric or '_' (\w).
bool is_word_character(std::uint32_t code_point);

}  // namespace crumb::data
