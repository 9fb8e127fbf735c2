// A template's text as tokens, with Jinja's rules for white space around tags.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data::jinja {

struct Token {
  enum class Kind {
    kText,
    kPrintBegin,
    kPrintEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kInt,
    kFloat,
    kString,
    kOperator,
    kEnd
  };
  Kind kind;
  std::string text;  // kText and kString: contents; else as written
  int line = 1;
};

/// The settings of transformers: trim_blocks, lstrip_blocks, one line feed at the end of the text dropped,
/// CR LF read as LF. Comments are left out. Throws Corrupt, naming `subject` and line, for unfinished tags,
/// strings and comments and for characters that no expression has; Unsupported for raw blocks.
std::vector<Token> tokenize(std::string_view text, std::string_view subject);

}  // namespace crumb::data::jinja
