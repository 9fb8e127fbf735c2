#include "data/pre_tokenizer.h"

#include <optional>
#include <utility>

#include "data/byte_alphabet.h"
#include "data/json_fields.h"
#include "data/regex.h"
#include "data/utf8.h"

namespace crumb::data {
namespace {

constexpr std::string_view kKnown =
    "Sequence, Split, Digits, ByteLevel, Metaspace, Punctuation, Whitespace, WhitespaceSplit";
constexpr std::string_view kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct Part {
  TextRange range;
  bool match = false;
};

// Matches and what lies between them, in order, covering the text.
std::vector<Part> cover(std::string_view text, const std::vector<TextRange>& matches, bool invert) {
  std::vector<Part> parts;
  parts.reserve(matches.size() * 2 + 1);
  std::size_t at = 0;
  for (const TextRange& match : matches) {
    if (match.begin > at) parts.push_back({{at, match.begin}, invert});
    parts.push_back({match, !invert});
    at = match.end;
  }
  if (at < text.size()) parts.push_back({{at, text.size()}, invert});
  return parts;
}

void emit(std::string_view text, const std::vector<Part>& parts, Behavior behavior,
          std::vector<std::string_view>& out) {
  const auto view = [&](const TextRange& r) { return text.substr(r.begin, r.end - r.begin); };
  if (behavior == Behavior::kRemoved || behavior == Behavior::kIsolated) {
    for (const Part& part : parts) {
      if (behavior == Behavior::kIsolated || !part.match) out.push_back(view(part.range));
    }
    return;
  }
  std::vector<TextRange> merged;
  bool previous = false;
  if (behavior == Behavior::kContiguous) {
    for (const Part& part : parts) {
      if (!merged.empty() && part.match == previous) {
        merged.back().end = part.range.end;
      } else {
        merged.push_back(part.range);
      }
      previous = part.match;
    }
  } else if (behavior == Behavior::kMergedWithPrevious) {
    for (const Part& part : parts) {
      if (part.match && !previous && !merged.empty()) {
        merged.back().end = part.range.end;
      } else {
        merged.push_back(part.range);
      }
      previous = part.match;
    }
  } else {
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      if (part->match && !previous && !merged.empty()) {
        merged.back().begin = part->range.begin;
      } else {
        merged.push_back(part->range);
      }
      previous = part->match;
    }
    for (auto range = merged.rbegin(); range != merged.rend(); ++range) out.push_back(view(*range));
    return;
  }
  for (const TextRange& range : merged) out.push_back(view(range));
}

// A step that only cuts: find() gives the matches of one word.
class Splitter : public PreTokenizerStep {
 public:
  Splitter(Behavior behavior, bool invert) : behavior_(behavior), invert_(invert) {}
  void apply(Words& words) const override {
    std::vector<std::string_view> out;
    out.reserve(words.words.size());
    std::vector<TextRange> matches;
    for (const std::string_view word : words.words) {
      matches.clear();
      find(word, matches);
      if (matches.empty() && !(invert_ && behavior_ == Behavior::kRemoved)) {
        if (!word.empty()) out.push_back(word);
      } else {
        emit(word, cover(word, matches, invert_), behavior_, out);
      }
    }
    words.words = std::move(out);
  }

 protected:
  virtual void find(std::string_view word, std::vector<TextRange>& matches) const = 0;

 private:
  Behavior behavior_;
  bool invert_;
};

class RegexSplit final : public Splitter {
 public:
  RegexSplit(Regex regex, Behavior behavior, bool invert)
      : Splitter(behavior, invert), regex_(std::move(regex)) {}

 protected:
  void find(std::string_view word, std::vector<TextRange>& matches) const override {
    regex_.find_all(word, matches);
  }

 private:
  Regex regex_;
};

class CharacterSplit final : public Splitter {
 public:
  CharacterSplit(bool (*predicate)(std::uint32_t), Behavior behavior)
      : Splitter(behavior, false), predicate_(predicate) {}

 protected:
  void find(std::string_view word, std::vector<TextRange>& matches) const override {
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t length = utf8_length(word, at);
      if (predicate_(utf8_code_point(word, at, length))) matches.push_back({at, at + length});
      at += length;
    }
  }

 private:
  bool (*predicate_)(std::uint32_t);
};

class PrefixSpace final : public PreTokenizerStep {
 public:
  void apply(Words& words) const override {
    for (std::string_view& word : words.words) {
      if (word.empty() || word.front() == ' ') continue;
      words.arena.emplace_back(1, ' ').append(word);
      word = words.arena.back();
    }
  }
};

class ByteAlphabetStep final : public PreTokenizerStep {
 public:
  void apply(Words& words) const override {
    for (std::string_view& word : words.words) {
      words.arena.push_back(to_byte_alphabet(word));
      word = words.arena.back();
    }
  }
};

class MetaspaceStep final : public PreTokenizerStep {
 public:
  enum class Prepend { kAlways, kFirst, kNever };
  MetaspaceStep(std::string mark, Prepend prepend) : mark_(std::move(mark)), prepend_(prepend) {}
  void apply(Words& words) const override {
    for (std::size_t i = 0; i < words.words.size(); ++i) {
      const std::string_view word = words.words[i];
      std::string out;
      for (const char c : word) {
        if (c == ' ') {
          out += mark_;
        } else {
          out += c;
        }
      }
      const bool wanted =
          prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && words.at_text_start && i == 0);
      if (wanted && !out.starts_with(mark_)) out.insert(0, mark_);
      words.arena.push_back(std::move(out));
      words.words[i] = words.arena.back();
    }
  }

 private:
  std::string mark_;
  Prepend prepend_;
};

Behavior parse_behavior(const std::string& name, std::string_view subject) {
  static const std::pair<const char*, Behavior> kNames[] = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous}};
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  fail_unknown_step(subject, "split behavior", name,
                    "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

}  // namespace

PreTokenizer::PreTokenizer(const nlohmann::json& json, std::string_view subject) {
  add(json, subject);
}

void PreTokenizer::add(const nlohmann::json& json, std::string_view subject) {
  if (json.is_null()) return;
  const std::string type = step_type(json, subject, "pre_tokenizer");
  if (type == "Sequence") {
    for (const auto& step : field<nlohmann::json>(json, "pretokenizers", subject)) add(step, subject);
    return;
  }
  if (std::exchange(maps_bytes_, false))
    steps_.push_back(std::make_unique<ByteAlphabetStep>());  // it was not the last step after all
  if (type == "Split") {
    const Behavior behavior = parse_behavior(field<std::string>(json, "behavior", subject), subject);
    steps_.push_back(std::make_unique<RegexSplit>(Regex(pattern_expression(json, subject), subject), behavior,
                                                  field_or<bool>(json, "invert", false, subject)));
  } else if (type == "Digits") {
    const bool individual = field_or<bool>(json, "individual_digits", false, subject);
    steps_.push_back(std::make_unique<CharacterSplit>(
        is_numeric, individual ? Behavior::kIsolated : Behavior::kContiguous));
  } else if (type == "Punctuation") {
    const auto behavior = field_or<std::string>(json, "behavior", "Isolated", subject);
    steps_.push_back(std::make_unique<CharacterSplit>(is_punctuation, parse_behavior(behavior, subject)));
  } else if (type == "Whitespace") {
    steps_.push_back(
        std::make_unique<RegexSplit>(Regex(R"(\w+|[^\w\s]+)", subject), Behavior::kRemoved, true));
  } else if (type == "WhitespaceSplit") {
    steps_.push_back(std::make_unique<CharacterSplit>(is_white_space, Behavior::kRemoved));
  } else if (type == "ByteLevel") {
    if (field_or<bool>(json, "add_prefix_space", true, subject))
      steps_.push_back(std::make_unique<PrefixSpace>());
    if (field_or<bool>(json, "use_regex", true, subject)) {
      steps_.push_back(
          std::make_unique<RegexSplit>(Regex(kGpt2Expression, subject), Behavior::kIsolated, false));
    }
    maps_bytes_ = true;
  } else if (type == "Metaspace") {
    const auto mark = field_or<std::string>(json, "replacement", "\xE2\x96\x81", subject);
    const bool legacy = field_or<bool>(json, "add_prefix_space", true, subject);
    const auto scheme = field_or<std::string>(json, "prepend_scheme", legacy ? "always" : "never", subject);
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      fail_unknown_step(subject, "Metaspace prepend_scheme", scheme, "always, first, never");
    }
    steps_.push_back(
        std::make_unique<MetaspaceStep>(mark, scheme == "always"  ? MetaspaceStep::Prepend::kAlways
                                              : scheme == "first" ? MetaspaceStep::Prepend::kFirst
                                                                  : MetaspaceStep::Prepend::kNever));
    if (field_or<bool>(json, "split", true, subject)) {
      steps_.push_back(std::make_unique<RegexSplit>(Regex(Regex::escape(mark), subject),
                                                    Behavior::kMergedWithNext, false));
    }
  } else {
    fail_unknown_step(subject, "pre_tokenizer", type, kKnown);
  }
}

void PreTokenizer::apply(Words& words) const {
  for (const auto& step : steps_) step->apply(words);
}

}  // namespace crumb::data
