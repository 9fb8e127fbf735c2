#include "data/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "data/json_fields.h"
#include "data/regex.h"

namespace crumb::data {
namespace {

constexpr std::string_view kKnown = "Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace";

class UnicodeForm final : public Normalizer {
 public:
  explicit UnicodeForm(int options) : options_(static_cast<utf8proc_option_t>(options)) {}
  void apply(std::string& text) const override {
    if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }))
      return;
    utf8proc_uint8_t* mapped = nullptr;
    const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                               static_cast<utf8proc_ssize_t>(text.size()), &mapped, options_);
    if (size < 0) {
      fail(ErrorKind::kInvalidArgument, "data.normalize", "text: utf8proc refuses it (",
           utf8proc_errmsg(size), "); want valid UTF-8; convert the text");
    }
    text.assign(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(size));
    std::free(mapped);
  }

 private:
  utf8proc_option_t options_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(std::string& text) const override {
    if (!text.empty()) text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class Replace final : public Normalizer {
 public:
  Replace(Regex regex, std::string content) : regex_(std::move(regex)), content_(std::move(content)) {}
  void apply(std::string& text) const override {
    std::vector<TextRange> matches;
    regex_.find_all(text, matches);
    if (matches.empty()) return;
    std::string out;
    out.reserve(text.size() + matches.size() * content_.size());
    std::size_t at = 0;
    for (const TextRange& match : matches) {
      out.append(text, at, match.begin - at).append(content_);
      at = match.end;
    }
    out.append(text, at, std::string::npos);
    text = std::move(out);
  }

 private:
  Regex regex_;
  std::string content_;
};

void add(const nlohmann::json& json, std::string_view subject,
         std::vector<std::unique_ptr<Normalizer>>& steps) {
  if (json.is_null()) return;
  const std::string type = step_type(json, subject, "normalizer");
  const int composed = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
  const int decomposed = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  if (type == "Sequence") {
    for (const auto& step : field<nlohmann::json>(json, "normalizers", subject)) add(step, subject, steps);
  } else if (type == "NFC") {
    steps.push_back(std::make_unique<UnicodeForm>(composed));
  } else if (type == "NFD") {
    steps.push_back(std::make_unique<UnicodeForm>(decomposed));
  } else if (type == "NFKC") {
    steps.push_back(std::make_unique<UnicodeForm>(composed | UTF8PROC_COMPAT));
  } else if (type == "NFKD") {
    steps.push_back(std::make_unique<UnicodeForm>(decomposed | UTF8PROC_COMPAT));
  } else if (type == "Prepend") {
    steps.push_back(std::make_unique<Prepend>(field<std::string>(json, "prepend", subject)));
  } else if (type == "Replace") {
    steps.push_back(std::make_unique<Replace>(Regex(pattern_expression(json, subject), subject),
                                              field<std::string>(json, "content", subject)));
  } else {
    fail_unknown_step(subject, "normalizer", type, kKnown);
  }
}

}  // namespace

std::vector<std::unique_ptr<Normalizer>> parse_normalizer(const nlohmann::json& json,
                                                          std::string_view subject) {
  std::vector<std::unique_ptr<Normalizer>> steps;
  add(json, subject, steps);
  return steps;
}

std::string normalize(const std::vector<std::unique_ptr<Normalizer>>& steps, std::string_view text) {
  std::string out(text);
  for (const auto& step : steps) step->apply(out);
  return out;
}

}  // namespace crumb::data
