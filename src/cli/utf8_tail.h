// Where a byte string stops being whole UTF-8 characters.
#pragma once
#include <cstddef>
#include <string_view>

namespace crumb::cli {

/// Length of `text` without a last character whose bytes are not all there yet, and without a last
/// replacement character (EF BF BD), which decoders put in the place of one.
inline std::size_t complete_utf8_length(std::string_view text) {
  while (text.size() >= 3 && text.substr(text.size() - 3) == "\xEF\xBF\xBD") text.remove_suffix(3);
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // a continuation byte: the first one is further left
    const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

}  // namespace crumb::cli
