// Which grid each linear has, as a quantization configuration says it: names, patterns, and a grid for the
// rest.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quant/spec.h"

namespace crumb::formats {

/// Rules in the order of the configuration; the first that matches a linear decides.
class LinearSpecs {
 public:
  enum class Match {
    kName,      // the linear's whole name
    kBegin,     // an expression that matches from the name's first character on (Python's re.match)
    kAnywhere,  // an expression that matches a part of the name (re.search)
  };

  explicit LinearSpecs(std::optional<quant::AffineSpec> otherwise = std::nullopt) : otherwise_(otherwise) {}

  /// A rule behind those that are there; spec nullopt: such linears are floats. `subject` names the file.
  /// Throws Corrupt with the reason when an expression does not compile.
  void add(Match match, std::string text, std::optional<quant::AffineSpec> spec, std::string_view subject);
  void set_otherwise(std::optional<quant::AffineSpec> spec) { otherwise_ = spec; }

  /// nullopt: the configuration calls it a float linear. Throws Unsupported when the expression engine gives
  /// up (its limit of retries), so that no configuration can hang the program.
  std::optional<quant::AffineSpec> of(std::string_view linear) const;
  const std::optional<quant::AffineSpec>& otherwise() const { return otherwise_; }

 private:
  class Expression;
  struct Rule {
    Match match;
    std::string text;
    std::shared_ptr<const Expression> expression;  // not of kName
    std::optional<quant::AffineSpec> spec;
  };
  std::vector<Rule> rules_;
  std::optional<quant::AffineSpec> otherwise_;
};

/// `name` as an expression that matches it and nothing else: "^model\\.layers\\.0\\.mlp\\.up_proj$".
std::string exact_expression(std::string_view name);

}  // namespace crumb::formats
