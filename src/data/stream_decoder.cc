#include "data/stream_decoder.h"

#include "data/utf8.h"

namespace crumb::data {
namespace {

constexpr std::size_t kLongestTail = 64;  // keeps push() cheap; cut only where all text has been given out

}  // namespace

std::string StreamDecoder::push(std::int32_t id) {
  if (ids_.size() >= kLongestTail) {
    // Keep the last token: it stands for everything before, so that a leading space is not taken for the
    // first one of the text.
    const std::string whole = tokenizer_.decode_bytes(ids_, skip_special_);
    const std::vector<std::int32_t> last(ids_.end() - 1, ids_.end());
    const std::string alone = tokenizer_.decode_bytes(last, skip_special_);
    if (emitted_ == whole.size() && !alone.empty() && whole.ends_with(alone)) {
      ids_ = last;
      emitted_ = alone.size();
    }
  }
  ids_.push_back(id);
  const std::string text = tokenizer_.decode_bytes(ids_, skip_special_);
  if (text.size() <= emitted_) return {};
  const std::string_view fresh = std::string_view(text).substr(emitted_);
  const std::size_t complete = complete_utf8_prefix(fresh);
  emitted_ += complete;
  return replace_invalid_utf8(fresh.substr(0, complete));
}

std::string StreamDecoder::finish() {
  const std::string text = tokenizer_.decode_bytes(ids_, skip_special_);
  const std::string rest =
      text.size() > emitted_ ? replace_invalid_utf8(std::string_view(text).substr(emitted_)) : std::string();
  ids_.clear();
  emitted_ = 0;
  return rest;
}

}  // namespace crumb::data
