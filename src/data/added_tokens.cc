#include "data/added_tokens.h"

#include <algorithm>
#include <utility>

#include "data/utf8.h"

namespace crumb::data {
namespace {

// Begin of the character that ends at `end` > 0.
std::size_t previous_character(std::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && (static_cast<std::uint8_t>(text[at]) & 0xC0u) == 0x80u) --at;
  return at;
}

bool word_character_before(std::string_view text, std::size_t at) {
  if (at == 0) return false;
  const std::size_t begin = previous_character(text, at);
  return is_word_character(utf8_code_point(text, begin, at - begin));
}

bool word_character_after(std::string_view text, std::size_t at) {
  return at < text.size() && is_word_character(utf8_code_point(text, at, utf8_length(text, at)));
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<Entry> entries) : entries_(std::move(entries)), nodes_(1) {
  std::erase_if(entries_, [](const Entry& entry) { return entry.pattern.empty(); });
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    std::int32_t node = 0;
    for (const char c : entries_[i].pattern) {
      const auto [next, fresh] = nodes_[node].next.try_emplace(static_cast<std::uint8_t>(c),
                                                               static_cast<std::int32_t>(nodes_.size()));
      const std::int32_t child = next->second;
      if (fresh) nodes_.emplace_back();
      node = child;
    }
    if (nodes_[node].entry < 0) nodes_[node].entry = static_cast<std::int32_t>(i);
  }
}

std::vector<Segment> AddedTokenMatcher::split(std::string_view text, bool parse_special) const {
  std::vector<Segment> out;
  std::size_t covered = 0;
  bool starts[256] = {};
  if (!nodes_.empty()) {
    for (const auto& [byte, child] : nodes_[0].next) starts[byte] = true;
  }
  for (std::size_t at = 0; at < text.size();) {
    if (!starts[static_cast<std::uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    std::int32_t best = -1;
    std::size_t best_end = at;
    std::int32_t node = 0;
    for (std::size_t i = at; i < text.size(); ++i) {
      const auto next = nodes_[node].next.find(static_cast<std::uint8_t>(text[i]));
      if (next == nodes_[node].next.end()) break;
      node = next->second;
      if (nodes_[node].entry >= 0) {
        best = nodes_[node].entry;
        best_end = i + 1;
      }
    }
    if (best < 0) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = best_end;
    at = best_end;
    const AddedToken& token = entries_[static_cast<std::size_t>(best)].token;
    if (token.special && !parse_special) continue;
    if (token.single_word && (word_character_before(text, begin) || word_character_after(text, end)))
      continue;
    if (token.left_strip) {
      while (begin > covered) {
        const std::size_t previous = previous_character(text, begin);
        if (!is_white_space(utf8_code_point(text, previous, begin - previous))) break;
        begin = previous;
      }
    }
    if (token.right_strip) {
      while (end < text.size()) {
        const std::size_t length = utf8_length(text, end);
        if (!is_white_space(utf8_code_point(text, end, length))) break;
        end += length;
      }
    }
    begin = std::max(begin, covered);
    if (begin > covered) out.push_back({covered, begin, -1});
    out.push_back({begin, end, token.id});
    covered = end;
    at = std::max(at, end);
  }
  if (covered < text.size()) out.push_back({covered, text.size(), -1});
  return out;
}

}  // namespace crumb::data
