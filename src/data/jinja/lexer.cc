#include "data/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "data/utf8.h"

namespace crumb::data::jinja {
namespace {

constexpr std::string_view kWhere = "data.jinja";
constexpr std::string_view kSpace = " \t\n\r\f\v";
constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "*",
                                                         "/",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                         "<",  ">",  "=",  ".",  ":",  "|",  ",", ";"};

std::string with_line_feeds(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r')
      out += text[i];
    else if (i + 1 == text.size() || text[i + 1] != '\n')
      out += '\n';
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view text, std::string_view subject) : text_(with_line_feeds(text)), subject_(subject) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) text_and_tag();
    add(Token::Kind::kEnd, "end of the template");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void corrupt(int line, std::string_view what) const {
    fail(ErrorKind::kCorrupt, kWhere, subject_, ": line ", line, ": ", what, "; is this a Jinja template?");
  }
  void add(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  bool here(std::string_view word) const { return std::string_view(text_).substr(at_, word.size()) == word; }
  /// Passes `count` bytes.
  void advance(std::size_t count) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(at_ + count), '\n'));
    at_ += count;
  }
  void skip_space() { advance(std::min(text_.find_first_not_of(kSpace, at_), text_.size()) - at_); }

  void text_and_tag() {
    std::size_t tag = at_;
    do {
      tag = text_.find('{', tag);
    } while (tag != std::string::npos && ++tag < text_.size() && text_[tag] != '{' && text_[tag] != '%' &&
             text_[tag] != '#');
    if (tag == std::string::npos || tag >= text_.size()) {
      emit_text(text_.substr(at_));
      advance(text_.size() - at_);
      return;
    }
    const char kind = text_[tag];
    const std::size_t begin = tag - 1;
    const char sign = tag + 1 < text_.size() ? text_[tag + 1] : '\0';
    std::string before = text_.substr(at_, begin - at_);
    if (sign == '-') {
      before.erase(before.find_last_not_of(kSpace) + 1);
    } else if (sign != '+' && kind != '{') {                  // lstrip_blocks
      const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 == 0
      const bool at_line_begin = line_begin > 0 || at_ == 0 || text_[at_ - 1] == '\n';
      if (at_line_begin && before.find_first_not_of(kSpace, line_begin) == std::string::npos)
        before.erase(line_begin);
    }
    emit_text(std::move(before));
    advance(begin - at_);
    const bool signed_tag = sign == '-' || (sign == '+' && kind != '{');
    advance(signed_tag ? 3 : 2);
    if (kind == '#') {
      comment();
    } else {
      add(kind == '{' ? Token::Kind::kPrintBegin : Token::Kind::kBlockBegin, kind == '{' ? "{{" : "{%");
      expression(kind == '{' ? "}}" : "%}");
    }
  }

  void emit_text(std::string text) {
    if (!text.empty()) add(Token::Kind::kText, std::move(text));
  }

  /// Behind the sign and before the end mark of a tag.
  void end_of_tag(char sign, bool block) {
    if (sign == '-')
      skip_space();
    else if (block && sign != '+' && here("\n"))
      advance(1);  // trim_blocks
  }

  void comment() {
    const std::size_t end = text_.find("#}", at_);
    if (end == std::string::npos) corrupt(line_, "a comment without '#}'");
    const char sign = end > at_ ? text_[end - 1] : '\0';
    advance(end + 2 - at_);
    end_of_tag(sign, true);
  }

  void expression(std::string_view end) {
    const int first_line = line_;
    std::string open;  // brackets
    for (;;) {
      skip_space();
      if (at_ >= text_.size()) corrupt(first_line, cat("a tag without '", end, "'"));
      if (open.empty()) {
        const bool signed_end = (text_[at_] == '-' || (text_[at_] == '+' && end == "%}")) &&
                                std::string_view(text_).substr(at_ + 1, 2) == end;
        if (signed_end || here(end)) {
          const char sign = signed_end ? text_[at_] : '\0';
          add(end == "}}" ? Token::Kind::kPrintEnd : Token::Kind::kBlockEnd, std::string(end));
          advance(signed_end ? 3 : 2);
          end_of_tag(sign, end == "%}");
          return;
        }
      }
      one_token(open);
    }
  }

  void one_token(std::string& open) {
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (std::isalpha(c) != 0 || c == '_') {
      std::size_t end = at_;
      while (end < text_.size() &&
             (std::isalnum(static_cast<unsigned char>(text_[end])) != 0 || text_[end] == '_'))
        ++end;
      add(Token::Kind::kName, text_.substr(at_, end - at_));
      if (tokens_.size() >= 2 && tokens_[tokens_.size() - 2].kind == Token::Kind::kBlockBegin &&
          tokens_.back().text == "raw")
        fail(ErrorKind::kUnsupported, kWhere, subject_, ": line ", line_,
             ": 'raw' blocks are not known here");
      advance(end - at_);
    } else if (std::isdigit(c) != 0) {
      number();
    } else if (c == '\'' || c == '"') {
      string_literal();
    } else {
      const auto op = std::find_if(kOperators.begin(), kOperators.end(),
                                   [&](std::string_view word) { return here(word); });
      if (op == kOperators.end()) corrupt(line_, cat("character '", text_[at_], "' in an expression"));
      bracket(*op, open);
      add(Token::Kind::kOperator, std::string(*op));
      advance(op->size());
    }
  }

  void bracket(std::string_view op, std::string& open) const {
    if (op == "(" || op == "[" || op == "{") open += op;
    if (op != ")" && op != "]" && op != "}") return;
    const char wanted = op == ")" ? '(' : op == "]" ? '[' : '{';
    if (open.empty() || open.back() != wanted) corrupt(line_, cat("'", op, "' without its opening bracket"));
    open.pop_back();
  }

  void number() {
    std::size_t end = at_;
    const auto digits = [&] {
      while (end < text_.size() &&
             (std::isdigit(static_cast<unsigned char>(text_[end])) != 0 || text_[end] == '_'))
        ++end;
    };
    const auto digit_at = [&](std::size_t i) {
      return i < text_.size() && std::isdigit(static_cast<unsigned char>(text_[i])) != 0;
    };
    digits();
    bool real = false;
    // After a dot, an integer is a subscript (x.0.1), never a fraction.
    const bool subscript =
        !tokens_.empty() && tokens_.back().kind == Token::Kind::kOperator && tokens_.back().text == ".";
    if (!subscript && end < text_.size() && text_[end] == '.' && digit_at(end + 1)) {
      real = true;
      ++end;
      digits();
    }
    if (!subscript && end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      const std::size_t sign =
          end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-') ? 1 : 0;
      if (digit_at(end + 1 + sign)) {
        real = true;
        end += 1 + sign;
        digits();
      }
    }
    std::string digits_only = text_.substr(at_, end - at_);
    std::erase(digits_only, '_');
    add(real ? Token::Kind::kFloat : Token::Kind::kInt, std::move(digits_only));
    advance(end - at_);
  }

  void string_literal() {
    const char quote = text_[at_];
    const int first_line = line_;
    std::string out;
    std::size_t i = at_ + 1;
    for (;; ++i) {
      if (i >= text_.size()) corrupt(first_line, "a string without its closing quote");
      if (text_[i] == quote) break;
      if (text_[i] != '\\') {
        out += text_[i];
        continue;
      }
      if (++i >= text_.size()) corrupt(first_line, "a string without its closing quote");
      i = escape(i, first_line, out);
    }
    const std::size_t length = i + 1 - at_;
    add(Token::Kind::kString, std::move(out));
    advance(length);
  }

  /// The escape whose letter is at `i`; returns the place of its last byte. Python keeps the backslash of an
  /// unknown one.
  std::size_t escape(std::size_t i, int line, std::string& out) const {
    constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
    const char c = text_[i];
    if (const std::size_t known = kLetters.find(c); known != std::string_view::npos) {
      out += kMeanings[known];
    } else if (c == '\n') {
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      std::uint32_t code = 0;
      for (std::size_t k = 1; k <= count; ++k) {
        const char digit = i + k < text_.size() ? text_[i + k] : '\0';
        if (std::isxdigit(static_cast<unsigned char>(digit)) == 0)
          corrupt(line, cat("'\\", c, "' without its ", count, " hexadecimal digits"));
        code = code * 16 + static_cast<std::uint32_t>(std::isdigit(static_cast<unsigned char>(digit))
                                                          ? digit - '0'
                                                          : (digit | 32) - 'a' + 10);
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        corrupt(line, "an escape that is no character");
      append_utf8(out, code);
      return i + count;
    } else if (c >= '0' && c <= '7') {
      std::uint32_t code = 0;
      std::size_t k = 0;
      for (; k < 3 && i + k < text_.size() && text_[i + k] >= '0' && text_[i + k] <= '7'; ++k)
        code = code * 8 + static_cast<std::uint32_t>(text_[i + k] - '0');
      append_utf8(out, code);
      return i + k - 1;
    } else {
      out += {'\\', c};
    }
    return i;
  }

  std::string text_, subject_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text, std::string_view subject) {
  return Lexer(text, subject).run();
}

}  // namespace crumb::data::jinja
