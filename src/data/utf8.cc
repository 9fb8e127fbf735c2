#include "data/utf8.h"

#include "base/error.h"

#include <utf8proc.h>

namespace crumb::data {
namespace {

std::uint8_t byte_at(std::string_view text, std::size_t at) {
  return static_cast<std::uint8_t>(text[at]);
}

// Bytes at `at` that could begin a valid character: `valid` of them, of `wanted`. wanted == 0: no lead byte.
struct Scan {
  std::size_t valid = 0, wanted = 0;
};

Scan scan(std::string_view text, std::size_t at) {
  const std::uint8_t lead = byte_at(text, at);
  if (lead < 0x80) return {1, 1};
  std::size_t wanted = 0;
  std::uint8_t low = 0x80, high = 0xBF;  // allowed range of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    wanted = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    wanted = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    wanted = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {0, 0};
  }
  std::size_t valid = 1;
  while (valid < wanted && at + valid < text.size()) {
    const std::uint8_t next = byte_at(text, at + valid);
    if (next < low || next > high) break;
    low = 0x80;
    high = 0xBF;
    ++valid;
  }
  return {valid, wanted};
}

utf8proc_category_t category(std::uint32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

}  // namespace

std::size_t utf8_length(std::string_view text, std::size_t at) {
  const Scan s = scan(text, at);
  return s.wanted != 0 && s.valid == s.wanted ? s.wanted : 0;
}

std::uint32_t utf8_code_point(std::string_view text, std::size_t at, std::size_t length) {
  const std::uint8_t lead = byte_at(text, at);
  if (length == 1) return lead;
  std::uint32_t value = lead & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) value = (value << 6) | (byte_at(text, at + i) & 0x3Fu);
  return value;
}

std::size_t find_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (byte_at(text, at) < 0x80) {
      ++at;
      continue;
    }
    const std::size_t length = utf8_length(text, at);
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

void check_utf8_to_encode(std::string_view text) {
  const std::size_t invalid = find_invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    fail(ErrorKind::kInvalidArgument, "data.encode", "text: byte ", invalid, " of ", text.size(),
         " is not valid UTF-8; want UTF-8; convert the text (iconv -t UTF-8)");
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t at = 0;
  while (at < text.size()) {
    const Scan s = scan(text, at);
    if (s.wanted != 0 && s.valid == s.wanted) {
      out.append(text.substr(at, s.wanted));
      at += s.wanted;
    } else {
      out += "\xEF\xBF\xBD";
      at += s.valid == 0 ? 1 : s.valid;
    }
  }
  return out;
}

std::size_t complete_utf8_prefix(std::string_view text) {
  const std::size_t from = text.size() < 3 ? 0 : text.size() - 3;
  for (std::size_t at = text.size(); at-- > from;) {
    if ((byte_at(text, at) & 0xC0u) == 0x80u) continue;
    const Scan s = scan(text, at);
    return s.valid < s.wanted && at + s.valid == text.size() ? at : text.size();
  }
  return text.size();
}

void append_utf8(std::string& out, std::uint32_t code_point) {
  utf8proc_uint8_t buffer[4];
  const utf8proc_ssize_t length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), buffer);
  out.append(reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(length));
}

bool is_white_space(std::uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_numeric(std::uint32_t c) {
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(std::uint32_t c) {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  const utf8proc_category_t k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool is_word_character(std::uint32_t c) {
  const utf8proc_category_t k = category(c);
  return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ND) || k == UTF8PROC_CATEGORY_PC;
}

}  // namespace crumb::data
