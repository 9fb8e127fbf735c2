// Text of a growing list of tokens, never half a character.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace crumb::data {

/// push() each token as it is generated; the returned parts joined, with finish() last, are decode() of all
/// tokens.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive this.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}
  /// The characters that this token completes; "" while one is unfinished.
  std::string push(std::int32_t id);
  /// What is left of an unfinished character, as U+FFFD.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::vector<std::int32_t>
      ids_;  // a short tail: how a token reads may depend on the one before it (leading spaces)
  std::size_t emitted_ = 0;  // bytes of the tail's text already given out
};

}  // namespace crumb::data
