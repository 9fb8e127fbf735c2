// Small text helpers. A formatting library is kept out of headers: libtorch ships another version of {fmt} in
// its include folder.
#pragma once
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace crumb {

/// The parts printed one after the other, as operator<< prints them.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// "[2, 64, 128]"
template <class Range>
std::string shape_string(const Range& dims) {
  std::ostringstream out;
  out << '[';
  const char* separator = "";
  for (const auto& dim : dims) {
    out << separator << dim;
    separator = ", ";
  }
  out << ']';
  return out.str();
}

/// "a, b, c"
std::string join(const std::vector<std::string>& words, std::string_view separator);

/// "1.4 GiB", "12 B"; three significant digits.
std::string human_bytes(double bytes);

/// "1 h 04 min", "3 min 20 s", "12.3 s"
std::string human_seconds(double seconds);

/// `value` printed with `digits` digits after the point.
std::string fixed(double value, int digits);

/// The candidate nearest to `word` by edit distance, or "" when none is within 1/2 of its length. For "did
/// you mean".
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace crumb
