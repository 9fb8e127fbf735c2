#include "formats/linear_specs.h"

#include <oniguruma.h>

#include <mutex>

#include "base/error.h"

namespace crumb::formats {

/// Oniguruma bounds its retries by default, which std::regex does not: configurations come from strangers.
class LinearSpecs::Expression {
 public:
  Expression(const std::string& text, std::string_view subject) {
    static std::once_flag once;
    std::call_once(once, [] {
      OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
      onig_initialize(encodings, 1);
    });
    constexpr std::size_t kLongest = 4096;
    if (text.size() > kLongest)
      fail(ErrorKind::kUnsupported, kWhere, subject, ": an expression of ", text.size(),
           " bytes for the names of linears; want at most ", kLongest);
    OnigErrorInfo info{};
    const auto* begin = reinterpret_cast<const OnigUChar*>(text.data());
    const int status = onig_new(&compiled_, begin, begin + text.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                                ONIG_SYNTAX_PYTHON, &info);
    if (status == ONIG_NORMAL) return;
    compiled_ = nullptr;
    OnigUChar reason[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int length = onig_error_code_to_str(reason, status, &info);
    fail(ErrorKind::kCorrupt, kWhere, subject, ": the expression '", text, "' does not compile (",
         std::string(reinterpret_cast<const char*>(reason), static_cast<std::size_t>(length)),
         "); want one of Python's for the names of linears");
  }
  ~Expression() {
    if (compiled_ != nullptr) onig_free(compiled_);
  }
  Expression(const Expression&) = delete;
  Expression& operator=(const Expression&) = delete;

  bool matches(std::string_view name, bool anywhere, const std::string& text) const {
    const auto* begin = reinterpret_cast<const OnigUChar*>(name.data());
    const auto* end = begin + name.size();
    const auto found = anywhere ? onig_search(compiled_, begin, end, begin, end, nullptr, ONIG_OPTION_NONE)
                                : onig_match(compiled_, begin, end, begin, nullptr, ONIG_OPTION_NONE);
    if (found >= 0) return true;
    if (found == ONIG_MISMATCH) return false;
    fail(ErrorKind::kUnsupported, kWhere, "the expression '", text, "' on '", name,
         "': the engine gave up with code ", found, "; want one that needs fewer retries");
  }

 private:
  static constexpr std::string_view kWhere = "formats.linear_specs";
  regex_t* compiled_ = nullptr;
};

void LinearSpecs::add(Match match, std::string text, std::optional<quant::AffineSpec> spec,
                      std::string_view subject) {
  std::shared_ptr<const Expression> expression;
  if (match != Match::kName) expression = std::make_shared<Expression>(text, subject);
  rules_.push_back({match, std::move(text), std::move(expression), spec});
}

std::optional<quant::AffineSpec> LinearSpecs::of(std::string_view linear) const {
  for (const Rule& rule : rules_) {
    const bool matches = rule.match == Match::kName
                             ? rule.text == linear
                             : rule.expression->matches(linear, rule.match == Match::kAnywhere, rule.text);
    if (matches) return rule.spec;
  }
  return otherwise_;
}

std::string exact_expression(std::string_view name) {
  std::string out = "^";
  for (const char c : name) {
    if (c == '.') out += '\\';
    out += c;
  }
  return out + "$";
}

}  // namespace crumb::formats
