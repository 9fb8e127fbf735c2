// The "normalizer" of a tokenizer.json: text to text, before anything is cut.
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace crumb::data {

/// One step. Known: Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace (String or Regex). Input and output are
/// valid UTF-8.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(std::string& text) const = 0;
};

/// The steps of `json` (null: none). Throws Unsupported naming a step that is not known, Corrupt when a field
/// is missing.
std::vector<std::unique_ptr<Normalizer>> parse_normalizer(const nlohmann::json& json,
                                                          std::string_view subject);

std::string normalize(const std::vector<std::unique_ptr<Normalizer>>& steps, std::string_view text);

}  // namespace crumb::data
