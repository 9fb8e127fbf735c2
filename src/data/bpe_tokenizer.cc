#include "data/bpe_tokenizer.h"

#include <algorithm>
#include <utility>

#include "data/byte_alphabet.h"
#include "data/json_fields.h"
#include "data/utf8.h"
#include "io/json.h"

namespace crumb::data {
namespace {

constexpr std::size_t kLongestCachedWord = 64;      // longer words hardly come twice
constexpr std::size_t kMostCachedWords = 1u << 20;  // about 100 MB

nlohmann::json section(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() ? nlohmann::json() : *found;
}

}  // namespace

// Ids of words seen in this call. Keys are copied: a word may lie in the arena of a segment that is gone.
struct BpeTokenizer::WordCache {
  struct Range {
    std::uint32_t begin, count;
  };
  std::unordered_map<std::string, Range, StringHash, std::equal_to<>> ranges;
  std::vector<std::int32_t> ids;
};

BpeTokenizer::BpeTokenizer(std::string json_text, std::string subject, const TokenizerConfig& config)
    : json_text_(std::move(json_text)), config_text_(config.text), subject_(std::move(subject)) {
  const nlohmann::json json = io::parse_json(json_text_, subject_);
  if (!json.is_object() || !json.contains("model")) {
    fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject_,
         ": no \"model\"; want a tokenizer.json; get the file again");
  }
  normalizer_ = parse_normalizer(section(json, "normalizer"), subject_);
  pre_tokenizer_ = PreTokenizer(section(json, "pre_tokenizer"), subject_);
  model_ = std::make_unique<BpeModel>(json.at("model"), subject_);
  decoder_ = TokenDecoder(section(json, "decoder"), subject_);

  const auto place = [&](std::int32_t id, const std::string& token) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= tokens_.size()) {
      tokens_.resize(at + 1);
      present_.resize(at + 1);
      is_special_.resize(at + 1);
    }
    if (present_[at] && tokens_[at] != token) {
      fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject_, ": id ", id, " belongs to '", tokens_[at],
           "' and to '", token, "'; want one token for each id; get the file again");
    }
    tokens_[at] = token;
    present_[at] = true;
  };
  for (const auto& [token, id] : model_->vocabulary()) place(id, token);
  read_added_tokens(section(json, "added_tokens"));
  for (const auto& [token, id] : added_ids_) {
    place(id, token);
  }
  if (tokens_.size() > 4 * (model_->vocabulary().size() + added_ids_.size()) + 65536) {
    fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject_, ": ids reach ", tokens_.size() - 1,
         " with only ", model_->vocabulary().size() + added_ids_.size(),
         " tokens; want ids without large holes; get the file again");
  }
  read_post_processor(section(json, "post_processor"));
  special_ = config.resolve([this](std::string_view token) { return token_id(token); });
  if (!special_.bos && !prefix_.empty()) special_.bos = prefix_.front();
}

void BpeTokenizer::read_added_tokens(const nlohmann::json& json) {
  if (json.is_null()) return;
  std::vector<AddedTokenMatcher::Entry> raw, normalized;
  std::vector<std::int32_t> special;
  for (const auto& item : json) {
    AddedToken token;
    token.id = field<std::int32_t>(item, "id", subject_);
    token.content = field<std::string>(item, "content", subject_);
    token.special = field_or<bool>(item, "special", false, subject_);
    token.normalized = field_or<bool>(item, "normalized", !token.special, subject_);
    token.left_strip = field_or<bool>(item, "lstrip", false, subject_);
    token.right_strip = field_or<bool>(item, "rstrip", false, subject_);
    token.single_word = field_or<bool>(item, "single_word", false, subject_);
    const auto in_model = model_->id(token.content);
    if (token.id < 0 || token.id > (1 << 26) || (in_model && *in_model != token.id)) {
      fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject_, ": added token '", token.content,
           "' has id ", token.id, in_model ? cat(", the model's vocabulary says ", *in_model) : std::string(),
           "; want one id; get the file again");
    }
    added_ids_.emplace(token.content, token.id);
    if (token.special) special.push_back(token.id);
    if (token.normalized) {
      normalized.push_back({normalize(normalizer_, token.content), token});
    } else {
      raw.push_back({token.content, token});
    }
  }
  raw_matcher_ = AddedTokenMatcher(std::move(raw));
  normalized_matcher_ = AddedTokenMatcher(std::move(normalized));
  for (const std::int32_t id : special) {
    if (static_cast<std::size_t>(id) >= is_special_.size()) {
      tokens_.resize(static_cast<std::size_t>(id) + 1);
      present_.resize(tokens_.size());
      is_special_.resize(tokens_.size());
    }
    is_special_[static_cast<std::size_t>(id)] = true;
  }
}

void BpeTokenizer::read_post_processor(const nlohmann::json& json) {
  if (json.is_null()) return;
  const std::string type = step_type(json, subject_, "post_processor");
  if (type == "Sequence") {
    for (const auto& step : field<nlohmann::json>(json, "processors", subject_)) read_post_processor(step);
    return;
  }
  if (type == "ByteLevel") return;  // moves offsets only
  if (type != "TemplateProcessing")
    fail_unknown_step(subject_, "post_processor", type, "Sequence, ByteLevel, TemplateProcessing");
  const auto tokens = field_or<nlohmann::json>(json, "special_tokens", nlohmann::json::object(), subject_);
  bool after_text = false;
  for (const auto& part : field<nlohmann::json>(json, "single", subject_)) {
    if (part.contains("Sequence")) {
      after_text = true;
      continue;
    }
    const auto name =
        field<std::string>(field<nlohmann::json>(part, "SpecialToken", subject_), "id", subject_);
    if (!tokens.contains(name)) {
      fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject_, ": the template uses '", name,
           "', which its special_tokens lack; get the file again");
    }
    for (const std::int32_t id : field<std::vector<std::int32_t>>(tokens.at(name), "ids", subject_)) {
      if (id < 0 || id >= size() || !present_[static_cast<std::size_t>(id)]) {
        fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject_, ": the template uses id ", id,
             ", which has no token; get the file again");
      }
      (after_text ? suffix_ : prefix_).push_back(id);
    }
  }
}

std::optional<std::int32_t> BpeTokenizer::token_id(std::string_view token) const {
  const auto added = added_ids_.find(token);
  if (added != added_ids_.end()) return added->second;
  return model_->id(token);
}

std::vector<std::int32_t> BpeTokenizer::encode(std::string_view text, bool add_special,
                                               bool parse_special) const {
  check_utf8_to_encode(text);
  std::vector<std::int32_t> out;
  out.reserve(text.size() / 4 + 2);
  WordCache cache;
  if (add_special) out.insert(out.end(), prefix_.begin(), prefix_.end());
  for (const Segment& segment : raw_matcher_.split(text, parse_special)) {
    if (segment.id >= 0) {
      out.push_back(segment.id);
      continue;
    }
    std::string_view part = text.substr(segment.begin, segment.end - segment.begin);
    std::string normalized;
    if (!normalizer_.empty()) part = normalized = normalize(normalizer_, part);
    if (normalized_matcher_.empty()) {
      encode_text(part, segment.begin == 0, cache, out);
      continue;
    }
    for (const Segment& inner : normalized_matcher_.split(part, parse_special)) {
      if (inner.id >= 0) {
        out.push_back(inner.id);
      } else {
        encode_text(part.substr(inner.begin, inner.end - inner.begin), segment.begin == 0 && inner.begin == 0,
                    cache, out);
      }
    }
  }
  if (add_special) out.insert(out.end(), suffix_.begin(), suffix_.end());
  return out;
}

void BpeTokenizer::encode_text(std::string_view text, bool at_text_start, WordCache& cache,
                               std::vector<std::int32_t>& out) const {
  Words words;
  words.words = {text};
  words.at_text_start = at_text_start;
  pre_tokenizer_.apply(words);
  for (const std::string_view word : words.words) {
    const auto found = cache.ranges.find(word);
    if (found != cache.ranges.end()) {
      const auto first = cache.ids.begin() + found->second.begin;
      out.insert(out.end(), first, first + found->second.count);
      continue;
    }
    const std::size_t before = out.size();
    if (pre_tokenizer_.maps_bytes()) {
      model_->encode(to_byte_alphabet(word), out);
    } else {
      model_->encode(word, out);
    }
    if (word.size() > kLongestCachedWord || cache.ranges.size() >= kMostCachedWords) continue;
    cache.ranges.emplace(std::string(word),
                         WordCache::Range{static_cast<std::uint32_t>(cache.ids.size()),
                                          static_cast<std::uint32_t>(out.size() - before)});
    cache.ids.insert(cache.ids.end(), out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
  }
}

std::vector<std::string> BpeTokenizer::tokens_of(std::span<const std::int32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= size()) {
      fail(ErrorKind::kInvalidArgument, "data.decode", "token id ", id, ": want 0 to ", size() - 1,
           "; the ids are of another tokenizer, or the model's vocabulary is padded beyond it");
    }
    const auto at = static_cast<std::size_t>(id);
    if (present_[at] && !(skip_special && is_special_[at])) tokens.push_back(tokens_[at]);
  }
  return tokens;
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  return replace_invalid_utf8(decoder_.decode(tokens_of(ids, skip_special), false));
}

std::string BpeTokenizer::decode_bytes(std::span<const std::int32_t> ids, bool skip_special) const {
  return decoder_.decode(tokens_of(ids, skip_special), true);
}

}  // namespace crumb::data
