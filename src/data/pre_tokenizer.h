// The "pre_tokenizer" of a tokenizer.json: cuts text into the words inside which BPE merges.
#pragma once
#include <deque>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data {

/// The words of one segment. Views point into the segment's text, or into `arena` where a step rewrote it.
struct Words {
  std::vector<std::string_view> words;
  std::deque<std::string> arena;
  bool at_text_start = true;  // the segment begins where the text begins (Metaspace's prepend_scheme "first")
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void apply(Words& words) const = 0;
};

/// All steps of a pre-tokenizer. Known: Sequence, Split (every behavior), Digits, ByteLevel, Metaspace,
/// Punctuation, Whitespace, WhitespaceSplit.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  /// `json` may be null. Throws Unsupported naming a step that is not known.
  PreTokenizer(const nlohmann::json& json, std::string_view subject);

  /// Cuts words.words (one view at the beginning). The bytes-to-alphabet step of a last ByteLevel is left to
  /// the caller, see maps_bytes(): doing it once per distinct word instead of once per word is most of the
  /// speed of encoding.
  void apply(Words& words) const;
  bool maps_bytes() const { return maps_bytes_; }

 private:
  void add(const nlohmann::json& json, std::string_view subject);
  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  bool maps_bytes_ = false;
};

}  // namespace crumb::data
