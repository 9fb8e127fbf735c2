// Added tokens (special and user-defined): cut out of the text before it is normalized and split.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      // left out by decode(skip_special), not parsed when parse_special is false
  bool normalized = false;   // looked for in normalized text, not in the text as given
  bool left_strip = false;   // swallows white space before it
  bool right_strip = false;  // and after it
  bool single_word = false;  // only where no word character touches it
};

/// A part of a text: an added token (id >= 0) or text between (id -1).
struct Segment {
  std::size_t begin = 0, end = 0;
  std::int32_t id = -1;
};

/// Finds tokens: leftmost first, the longest of those that start there.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  /// `pattern` of each token is what to look for: its content, normalized where the token says so. Empty
  /// patterns are left out.
  struct Entry {
    std::string pattern;
    AddedToken token;
  };
  explicit AddedTokenMatcher(std::vector<Entry> entries);

  bool empty() const { return entries_.empty(); }
  /// Covers `text`. With `parse_special` false, a match of a special token counts as text.
  std::vector<Segment> split(std::string_view text, bool parse_special) const;

 private:
  struct Node {
    std::map<std::uint8_t, std::int32_t> next;
    std::int32_t entry = -1;
  };
  std::vector<Entry> entries_;
  std::vector<Node> nodes_;
};

}  // namespace crumb::data
