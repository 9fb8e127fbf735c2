#include "data/regex.h"

#include <oniguruma.h>

#include <mutex>

#include "base/error.h"

namespace crumb::data {

struct Regex::Impl {
  regex_t* compiled = nullptr;
  std::string pattern;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (compiled != nullptr) onig_free(compiled);
  }
};

namespace {

const OnigUChar* bytes_of(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

struct Region {
  OnigRegion* value = onig_region_new();
  Region() = default;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region() { onig_region_free(value, 1); }
};

}  // namespace

Regex::Regex(std::string_view pattern, std::string_view subject) {
  static std::once_flag once;
  std::call_once(once, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
  auto impl = std::make_shared<Impl>();
  impl->pattern = pattern;
  OnigErrorInfo info{};
  const std::string& p = impl->pattern;
  const int status = onig_new(&impl->compiled, bytes_of(p), bytes_of(p) + p.size(), ONIG_OPTION_NONE,
                              ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  if (status != ONIG_NORMAL) {
    impl->compiled = nullptr;
    OnigUChar reason[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int length = onig_error_code_to_str(reason, status, &info);
    fail(ErrorKind::kCorrupt, "data.regex", subject, ": the expression '", p, "' does not compile (",
         std::string(reinterpret_cast<const char*>(reason), static_cast<std::size_t>(length)),
         "); want an Oniguruma expression; get the tokenizer file again");
  }
  impl_ = std::move(impl);
}

void Regex::find_all(std::string_view text, std::vector<TextRange>& out) const {
  Region region;
  const OnigUChar* begin = bytes_of(text);
  const OnigUChar* end = begin + text.size();
  std::size_t at = 0;
  while (at < text.size()) {
    const auto found =
        onig_search(impl_->compiled, begin, end, begin + at, end, region.value, ONIG_OPTION_NONE);
    if (found == ONIG_MISMATCH) return;
    if (found < 0) {
      fail(ErrorKind::kUnsupported, "data.regex", "expression '", impl_->pattern,
           "': the engine gave up with code ", found, " at byte ", at, " of ", text.size(),
           "; want text within its limits; split the text into smaller documents");
    }
    const TextRange match{static_cast<std::size_t>(region.value->beg[0]),
                          static_cast<std::size_t>(region.value->end[0])};
    if (match.end > match.begin) {
      out.push_back(match);
      at = match.end;
    } else {
      at = match.end + 1;  // an empty match: go on with the next character
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) ++at;
    }
  }
}

std::string Regex::escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}-&~#").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace crumb::data
