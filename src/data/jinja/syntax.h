// The tree of a template.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/jinja/value.h"

namespace crumb::data::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

/// `parts` by kind; a part may be null where noted.
struct Expression {
  enum class Kind {
    kLiteral,      // value
    kName,         // text
    kList,         // parts
    kTuple,        // parts
    kDict,         // parts: key, value, key, value, …
    kAttribute,    // parts: object; text
    kSubscript,    // parts: object, index
    kSlice,        // parts: object, begin?, end?, step?
    kCall,         // parts: callee, arguments…; names: "" for a positional one
    kFilter,       // parts: value, arguments…; text, names
    kTest,         // parts: value, arguments…; text, names
    kNot,          // parts: value
    kNegative,     // parts: value
    kPositive,     // parts: value
    kBinary,       // parts: left, right; text: + - * / // % ~ and or
    kComparison,   // parts: first, next, …; names: the operators between them (== != < <= > >= in "not in")
    kConditional,  // parts: condition, then, otherwise?
  };
  Kind kind;
  int line;
  std::string text;
  Value value;
  std::vector<ExpressionPtr> parts;
  std::vector<std::string> names;
};

struct Statement;
using Body = std::vector<Statement>;

struct Statement {
  enum class Kind { kText, kPrint, kIf, kFor, kSet, kSetBlock, kMacro, kBreak, kContinue, kGeneration };
  struct Parameter {
    std::string name;
    ExpressionPtr otherwise;  // null: none
  };
  Kind kind;
  int line;
  std::string text;         // kText; kMacro: its name
  ExpressionPtr target;     // kFor, kSet, kSetBlock: a name, a tuple of names, or namespace.attribute
  ExpressionPtr value;      // kPrint, kFor (what is iterated), kSet; kSetBlock: null, or filters on kName ""
  ExpressionPtr condition;  // kFor: its filter, or null
  std::vector<ExpressionPtr> tests;  // kIf: one a branch; null for else
  std::vector<Body> bodies;  // kIf: one a branch; kFor: body, else; kSetBlock, kMacro, kGeneration: one
  std::vector<Parameter> parameters;  // kMacro
};

/// Throws Corrupt for what Jinja would not parse and Unsupported for what this subset leaves out, naming
/// `subject` and line. Nesting is limited to 200 levels.
Body parse(std::string_view text, std::string_view subject);

}  // namespace crumb::data::jinja
