#include <algorithm>
#include <cstdlib>
#include <initializer_list>

#include "base/error.h"
#include "data/jinja/lexer.h"
#include "data/jinja/syntax.h"

namespace crumb::data::jinja {
namespace {

constexpr std::string_view kWhere = "data.jinja";
constexpr int kDeepest = 200, kLongestRow = 200;
using Kind = Expression::Kind;
using T = Token::Kind;

class Parser {
 public:
  Parser(std::string_view text, std::string_view subject)
      : subject_(subject), tokens_(tokenize(text, subject)) {}

  Body run() {
    Body body = statements({});
    if (current().kind != T::kEnd) corrupt(cat("'", current().text, "' without its beginning"));
    return body;
  }

 private:
  class Level {
   public:
    explicit Level(Parser& parser) : depth_(parser.depth_) {
      if (++depth_ > kDeepest) parser.unsupported(cat("nesting of more than ", kDeepest, " levels"));
    }
    ~Level() { --depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    int& depth_;
  };

  [[noreturn]] void corrupt(const std::string& what) const {
    fail(ErrorKind::kCorrupt, kWhere, subject_, ": line ", current().line, ": ", what,
         "; this is no Jinja that can be read");
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    fail(ErrorKind::kUnsupported, kWhere, subject_, ": line ", current().line, ": ", what,
         " is not in the part of Jinja that crumb knows (docs/chat_templates.md); give another template with "
         "--chat-template");
  }

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() {
    Token token = current();
    if (token.kind != T::kEnd) ++at_;
    return token;
  }
  bool is_operator(std::string_view text) const {
    return current().kind == T::kOperator && current().text == text;
  }
  bool is_name(std::string_view text) const { return current().kind == T::kName && current().text == text; }
  bool skip_operator(std::string_view text) { return is_operator(text) && (++at_, true); }
  bool skip_name(std::string_view text) { return is_name(text) && (++at_, true); }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) corrupt(cat("found '", current().text, "'; expected '", text, "'"));
  }
  std::string expect_name() {
    if (current().kind != T::kName) corrupt(cat("found '", current().text, "'; expected a name"));
    return take().text;
  }
  void expect_block_end() {
    if (current().kind != T::kBlockEnd) corrupt(cat("found '", current().text, "'; expected '%}'"));
    take();
  }

  /// One more operator in a row, each of which is one level of the tree.
  void count(int& row) const {
    if (++row > kLongestRow) unsupported(cat("a row of more than ", kLongestRow, " operators"));
  }

  ExpressionPtr make(Kind kind, int line, std::string text = {}) const {
    return std::make_unique<Expression>(Expression{kind, line, std::move(text), {}, {}, {}});
  }
  template <class... Parts>
  ExpressionPtr node(Kind kind, int line, std::string text, Parts... parts) const {
    ExpressionPtr out = make(kind, line, std::move(text));
    (out->parts.push_back(std::move(parts)), ...);
    return out;
  }
  ExpressionPtr literal(Value value) const {
    ExpressionPtr out = make(Kind::kLiteral, current().line);
    out->value = std::move(value);
    return out;
  }

  // ---- statements ----

  /// Up to a block whose word is one of `ends` (its '{%' and word are taken then and the word is in end_), or
  /// the end.
  Body statements(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    Body body;
    for (;;) {
      const Token& token = current();
      if (token.kind == T::kEnd) {
        if (ends.size() > 0) corrupt(cat("the template ends before '", *ends.begin(), "'"));
        return body;
      }
      if (token.kind == T::kText) {
        body.push_back(start(Statement::Kind::kText));
        body.back().text = take().text;
      } else if (token.kind == T::kPrintBegin) {
        take();
        body.push_back(start(Statement::Kind::kPrint));
        body.back().value = tuple_or_expression();
        if (current().kind != T::kPrintEnd) corrupt(cat("found '", current().text, "'; expected '}}'"));
        take();
      } else if (token.kind == T::kBlockBegin) {
        if (std::find(ends.begin(), ends.end(), ahead().text) != ends.end()) {
          take();
          end_ = take().text;
          return body;
        }
        if (ahead().kind == T::kName &&
            (ahead().text.starts_with("end") || ahead().text == "else" || ahead().text == "elif")) {
          take();
          corrupt(cat("'", current().text, "' without its beginning"));
        }
        take();
        body.push_back(block());
      } else {
        corrupt(cat("found '", token.text, "' outside of a tag"));
      }
    }
  }

  Statement start(Statement::Kind kind) const {
    return Statement{kind, current().line, {}, {}, {}, {}, {}, {}, {}};
  }

  Statement block() {
    const std::string word = current().kind == T::kName ? current().text : "";
    if (word == "if") return if_block();
    if (word == "for") return for_block();
    if (word == "set") return set_block();
    if (word == "macro") return macro_block();
    if (word == "break" || word == "continue") {
      Statement out = start(word == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue);
      if (loops_ == 0) corrupt(cat("'", word, "' outside of a loop"));
      take();
      expect_block_end();
      return out;
    }
    if (word == "generation") {  // transformers' mark around what the assistant wrote; it prints its body
      Statement out = start(Statement::Kind::kGeneration);
      take();
      expect_block_end();
      out.bodies.push_back(statements({"endgeneration"}));
      expect_block_end();
      return out;
    }
    constexpr std::string_view kKnownElsewhere[] = {"block",      "extends", "include", "import",
                                                    "from",       "call",    "filter",  "with",
                                                    "autoescape", "trans",   "do"};
    if (std::find(std::begin(kKnownElsewhere), std::end(kKnownElsewhere), word) != std::end(kKnownElsewhere))
      unsupported(cat("'{% ", word, " %}'"));
    corrupt(cat("unknown tag '", current().text, "'"));
  }

  Statement if_block() {
    Statement out = start(Statement::Kind::kIf);
    take();
    out.tests.push_back(tuple_or_expression());
    for (;;) {
      expect_block_end();
      const bool last = out.tests.back() == nullptr;
      out.bodies.push_back(last ? statements({"endif"}) : statements({"endif", "elif", "else"}));
      if (end_ == "endif") break;
      out.tests.push_back(end_ == "elif" ? tuple_or_expression() : nullptr);
    }
    expect_block_end();
    return out;
  }

  Statement for_block() {
    Statement out = start(Statement::Kind::kFor);
    take();
    out.target = target(false);
    if (!skip_name("in")) corrupt(cat("found '", current().text, "'; expected 'in'"));
    out.value = tuple_of([this] { return disjunction(); });
    if (skip_name("if")) out.condition = expression();
    if (is_name("recursive")) unsupported("'recursive'");
    expect_block_end();
    ++loops_;
    out.bodies.push_back(statements({"endfor", "else"}));
    --loops_;
    if (end_ == "else") {
      expect_block_end();
      out.bodies.push_back(statements({"endfor"}));
    }
    expect_block_end();
    return out;
  }

  Statement set_block() {
    Statement out = start(Statement::Kind::kSet);
    take();
    out.target = target(true);
    if (skip_operator("=")) {
      out.value = tuple_or_expression();
      expect_block_end();
      return out;
    }
    out.kind = Statement::Kind::kSetBlock;
    if (is_operator("|")) out.value = filters(make(Kind::kName, current().line));
    expect_block_end();
    out.bodies.push_back(statements({"endset"}));
    expect_block_end();
    return out;
  }

  Statement macro_block() {
    Statement out = start(Statement::Kind::kMacro);
    take();
    out.text = expect_name();
    expect_operator("(");
    while (!skip_operator(")")) {
      if (!out.parameters.empty()) expect_operator(",");
      if (skip_operator(")")) break;
      Statement::Parameter parameter{expect_name(), nullptr};
      if (skip_operator("="))
        parameter.otherwise = expression();
      else if (!out.parameters.empty() && out.parameters.back().otherwise)
        corrupt("a parameter without a value behind one with");
      out.parameters.push_back(std::move(parameter));
    }
    expect_block_end();
    const int loops = std::exchange(loops_, 0);
    out.bodies.push_back(statements({"endmacro"}));
    loops_ = loops;
    expect_block_end();
    return out;
  }

  /// A name, names in a tuple, or with `attributes` namespace.name.
  ExpressionPtr target(bool attributes) {
    const auto name = [&]() -> ExpressionPtr {
      const int line = current().line;
      if (is_operator("(")) unsupported("a tuple in brackets to assign to");
      ExpressionPtr out = make(Kind::kName, line, expect_name());
      constexpr std::string_view kFixed[] = {"true", "false", "none", "True", "False", "None", "loop"};
      if (std::find(std::begin(kFixed), std::end(kFixed), out->text) != std::end(kFixed))
        corrupt(cat("'", out->text, "' cannot be assigned to"));
      if (attributes && skip_operator(".")) {
        const std::string attribute = expect_name();
        out = node(Kind::kAttribute, line, attribute, std::move(out));
      }
      return out;
    };
    return tuple_of(name);
  }

  // ---- expressions, from the loosest binding to the tightest ----

  /// One item, or a tuple of those between commas.
  template <class Item>
  ExpressionPtr tuple_of(const Item& item) {
    ExpressionPtr first = item();
    if (!is_operator(",")) return first;
    const int line = first->line;
    ExpressionPtr out = node(Kind::kTuple, line, "", std::move(first));
    while (skip_operator(",")) {
      if (current().kind == T::kBlockEnd || current().kind == T::kPrintEnd || is_operator(")") ||
          is_operator("=") || is_name("in"))
        break;
      out->parts.push_back(item());
    }
    return out;
  }
  ExpressionPtr tuple_or_expression() {
    return tuple_of([this] { return expression(); });
  }

  ExpressionPtr expression() {
    const Level level(*this);
    ExpressionPtr out = disjunction();
    for (int row = 0; is_name("if"); count(row)) {
      const int line = take().line;
      ExpressionPtr condition = disjunction();
      ExpressionPtr otherwise = skip_name("else") ? expression() : nullptr;
      out = node(Kind::kConditional, line, "", std::move(condition), std::move(out), std::move(otherwise));
    }
    return out;
  }

  ExpressionPtr disjunction() {
    ExpressionPtr out = conjunction();
    for (int row = 0; is_name("or"); count(row)) {
      const int line = take().line;
      out = node(Kind::kBinary, line, "or", std::move(out), conjunction());
    }
    return out;
  }
  ExpressionPtr conjunction() {
    ExpressionPtr out = negation();
    for (int row = 0; is_name("and"); count(row)) {
      const int line = take().line;
      out = node(Kind::kBinary, line, "and", std::move(out), negation());
    }
    return out;
  }
  ExpressionPtr negation() {
    if (!is_name("not")) return comparison();
    const Level level(*this);
    const int line = take().line;
    return node(Kind::kNot, line, "", negation());
  }
  ExpressionPtr comparison() {
    ExpressionPtr first = sum();
    ExpressionPtr out;
    for (;;) {
      std::string op;
      for (const char* word : {"==", "!=", "<=", ">=", "<", ">"}) {
        if (is_operator(word)) op = word;
      }
      if (is_name("in")) op = "in";
      if (is_name("not") && ahead().kind == T::kName && ahead().text == "in") op = "not in";
      if (op.empty()) break;
      if (!out) out = node(Kind::kComparison, current().line, "", std::move(first));
      take();
      if (op == "not in") take();
      out->names.push_back(op);
      out->parts.push_back(sum());
    }
    return out ? std::move(out) : std::move(first);
  }

  template <class Operand>
  ExpressionPtr left_to_right(std::initializer_list<const char*> operators, const Operand& operand) {
    ExpressionPtr out = operand();
    for (int row = 0;; count(row)) {
      const auto op = std::find_if(operators.begin(), operators.end(),
                                   [&](const char* word) { return is_operator(word); });
      if (op == operators.end()) return out;
      const int line = take().line;
      out = node(Kind::kBinary, line, *op, std::move(out), operand());
    }
  }
  ExpressionPtr sum() {
    return left_to_right({"+", "-"}, [this] { return concatenation(); });
  }
  ExpressionPtr concatenation() {
    return left_to_right({"~"}, [this] { return product(); });
  }
  ExpressionPtr product() {
    return left_to_right({"*", "//", "/", "%"}, [this] {
      ExpressionPtr out = unary(true);
      if (is_operator("**")) unsupported("'**'");
      return out;
    });
  }

  ExpressionPtr unary(bool with_filters) {
    const Level level(*this);
    ExpressionPtr out;
    const int line = current().line;
    if (skip_operator("-"))
      out = node(Kind::kNegative, line, "", unary(false));
    else if (skip_operator("+"))
      out = node(Kind::kPositive, line, "", unary(false));
    else
      out = primary();
    out = postfix(std::move(out));
    return with_filters ? filters(std::move(out)) : std::move(out);
  }

  ExpressionPtr primary() {
    const Token token = current();
    switch (token.kind) {
      case T::kName: {
        take();
        if (token.text == "true" || token.text == "True") return literal(true);
        if (token.text == "false" || token.text == "False") return literal(false);
        if (token.text == "none" || token.text == "None") return literal(None{});
        constexpr std::string_view kWords[] = {"and", "or", "not", "in", "is", "if", "else", "elif", "for"};
        if (std::find(std::begin(kWords), std::end(kWords), token.text) != std::end(kWords)) {
          --at_;
          corrupt(cat("'", token.text, "' where a value is expected"));
        }
        return make(Kind::kName, token.line, token.text);
      }
      case T::kInt: {
        if (token.text.size() > 18) unsupported(cat("the integer ", token.text));
        take();
        return literal(static_cast<std::int64_t>(std::strtoll(token.text.c_str(), nullptr, 10)));
      }
      case T::kFloat:
        take();
        return literal(std::strtod(token.text.c_str(), nullptr));
      case T::kString: {
        std::string text;
        while (current().kind == T::kString) text += take().text;
        return literal(std::move(text));
      }
      default:
        break;
    }
    if (skip_operator("(")) {
      if (skip_operator(")")) return make(Kind::kTuple, token.line);
      ExpressionPtr out = tuple_or_expression();
      expect_operator(")");
      return out;
    }
    if (skip_operator("[")) {
      ExpressionPtr out = make(Kind::kList, token.line);
      while (!skip_operator("]")) {
        if (!out->parts.empty()) expect_operator(",");
        if (skip_operator("]")) break;
        out->parts.push_back(expression());
      }
      return out;
    }
    if (skip_operator("{")) {
      ExpressionPtr out = make(Kind::kDict, token.line);
      while (!skip_operator("}")) {
        if (!out->parts.empty()) expect_operator(",");
        if (skip_operator("}")) break;
        out->parts.push_back(expression());
        expect_operator(":");
        out->parts.push_back(expression());
      }
      return out;
    }
    corrupt(cat("found '", token.text, "' where a value is expected"));
  }

  ExpressionPtr postfix(ExpressionPtr out) {
    for (int row = 0;; count(row)) {
      const int line = current().line;
      if (skip_operator(".")) {
        if (current().kind == T::kInt) {
          ExpressionPtr index = primary();
          out = node(Kind::kSubscript, line, "", std::move(out), std::move(index));
        } else {
          std::string name = expect_name();
          out = node(Kind::kAttribute, line, std::move(name), std::move(out));
        }
      } else if (skip_operator("[")) {
        out = subscript(std::move(out), line);
      } else if (is_operator("(")) {
        out = node(Kind::kCall, line, "", std::move(out));
        arguments(*out);
      } else {
        return out;
      }
    }
  }

  ExpressionPtr subscript(ExpressionPtr object, int line) {
    ExpressionPtr parts[3];
    int part = 0;
    bool slice = false;
    while (!is_operator("]")) {
      if (is_operator(":")) {
        take();
        slice = true;
        if (++part > 2) corrupt("a slice with more than three parts");
        continue;
      }
      if (parts[part]) corrupt(cat("found '", current().text, "'; expected ']'"));
      parts[part] = expression();
      if (is_operator(",")) unsupported("a subscript of several values");
    }
    take();
    if (!slice && !parts[0]) corrupt("an empty subscript");
    if (!slice) return node(Kind::kSubscript, line, "", std::move(object), std::move(parts[0]));
    return node(Kind::kSlice, line, "", std::move(object), std::move(parts[0]), std::move(parts[1]),
                std::move(parts[2]));
  }

  /// "(…)" appended to parts and names.
  void arguments(Expression& call) {
    expect_operator("(");
    bool first = true;
    while (!skip_operator(")")) {
      if (!first) expect_operator(",");
      first = false;
      if (skip_operator(")")) break;
      if (is_operator("*") || is_operator("**")) unsupported(cat("'", current().text, "' in a call"));
      std::string name;
      if (current().kind == T::kName && ahead().kind == T::kOperator && ahead().text == "=") {
        name = take().text;
        take();
      } else if (!call.names.empty() && !call.names.back().empty()) {
        corrupt("a positional argument behind a named one");
      }
      call.names.push_back(std::move(name));
      call.parts.push_back(expression());
    }
  }

  ExpressionPtr filters(ExpressionPtr out) {
    for (int row = 0;; count(row)) {
      const int line = current().line;
      if (skip_operator("|")) {
        out = node(Kind::kFilter, line, expect_name(), std::move(out));
        if (is_operator(".")) unsupported("a filter's name with a dot");
        if (is_operator("(")) arguments(*out);
      } else if (is_name("is")) {
        take();
        const bool negated = skip_name("not");
        out = node(Kind::kTest, line, expect_name(), std::move(out));
        if (is_operator("(")) {
          arguments(*out);
        } else if (starts_argument()) {
          out->names.emplace_back();
          out->parts.push_back(postfix(primary()));
        }
        if (negated) out = node(Kind::kNot, line, "", std::move(out));
      } else {
        return out;
      }
    }
  }

  /// `x is divisibleby 3`: a value behind the test's name.
  bool starts_argument() const {
    const Token& token = current();
    if (token.kind == T::kString || token.kind == T::kInt || token.kind == T::kFloat || is_operator("[") ||
        is_operator("{"))
      return true;
    return token.kind == T::kName && token.text != "else" && token.text != "or" && token.text != "and" &&
           token.text != "is" && token.text != "if" && token.text != "in" && token.text != "not";
  }

  std::string subject_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
  std::string end_;
};

}  // namespace

Body parse(std::string_view text, std::string_view subject) {
  return Parser(text, subject).run();
}

}  // namespace crumb::data::jinja
