// Regular expressions of tokenizer files, by Oniguruma: the engine that the reference implementation uses.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data {

/// A part of a text: bytes [begin, end).
struct TextRange {
  std::size_t begin = 0, end = 0;
};

/// A compiled expression over UTF-8. Copies share it; find_all may be called from several threads.
class Regex {
 public:
  /// Throws Corrupt with the engine's reason; `subject` names the file.
  Regex(std::string_view pattern, std::string_view subject);

  /// All matches that are not empty, left to right, appended to `out`. `text` is valid UTF-8. Throws
  /// Unsupported when the engine gives up (its limits of stack or retries).
  void find_all(std::string_view text, std::vector<TextRange>& out) const;

  /// The expression that matches `text` itself and nothing else.
  static std::string escape(std::string_view text);

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace crumb::data
