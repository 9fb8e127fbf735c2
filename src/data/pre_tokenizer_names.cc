#include "data/pre_tokenizer_names.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "data/tokenizer_json_writer.h"

namespace crumb::data {
namespace {

constexpr std::string_view kByteLevelGpt2 =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
constexpr std::string_view kByteLevelOnly =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})";

// docs/tokenizers.md has the table with the models that use each.
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";

std::string split(std::string_view expression) {
  return R"({"type": "Split", "pattern": {"Regex": )" + json_string(expression) +
         R"(}, "behavior": "Isolated", "invert": false})";
}

std::string sequence(const std::vector<std::string>& steps) {
  std::string out = R"({"type": "Sequence", "pretokenizers": [)";
  for (std::size_t i = 0; i < steps.size(); ++i) out.append(i > 0 ? ", " : "").append(steps[i]);
  return out + "]}";
}

enum class Rule { kGpt2, kDigitsGpt2, kLlama3, kLlama3Merging, kQwen2, kTekken, kFalcon, kDefault };

struct Name {
  std::string_view name;
  Rule rule;
};

constexpr Name kNames[] = {
    {"gpt-2", Rule::kGpt2},
    {"phi-2", Rule::kGpt2},
    {"mpt", Rule::kGpt2},
    {"olmo", Rule::kGpt2},
    {"jina-es", Rule::kGpt2},
    {"jina-de", Rule::kGpt2},
    {"smollm", Rule::kDigitsGpt2},
    {"starcoder", Rule::kDigitsGpt2},
    {"refact", Rule::kDigitsGpt2},
    {"command-r", Rule::kDigitsGpt2},
    {"codeshell", Rule::kDigitsGpt2},
    {"exaone", Rule::kDigitsGpt2},
    {"llama-bpe", Rule::kLlama3},
    {"llama3", Rule::kLlama3},
    {"llama-v3", Rule::kLlama3},
    {"falcon3", Rule::kLlama3},
    {"dbrx", Rule::kLlama3Merging},
    {"smaug-bpe", Rule::kLlama3Merging},
    {"qwen2", Rule::kQwen2},
    {"deepseek-r1-qwen", Rule::kQwen2},
    {"stablelm2", Rule::kQwen2},
    {"tekken", Rule::kTekken},
    {"falcon", Rule::kFalcon},
    {"default", Rule::kDefault},
    {"", Rule::kDefault},
};

NamedPreTokenizer pre_tokenizer_of(Rule rule) {
  NamedPreTokenizer out;
  out.normalizer = "null";
  const std::string gpt2(kByteLevelGpt2), bytes(kByteLevelOnly);
  switch (rule) {
    case Rule::kGpt2:
      out.pre_tokenizer = gpt2;
      break;
    case Rule::kDigitsGpt2:
      out.pre_tokenizer = sequence({R"({"type": "Digits", "individual_digits": true})", gpt2});
      break;
    case Rule::kLlama3:
    case Rule::kLlama3Merging:
      out.pre_tokenizer = sequence({split(kLlama3), bytes});
      out.ignore_merges = rule == Rule::kLlama3;
      out.add_bos = rule == Rule::kLlama3;
      break;
    case Rule::kQwen2:
      // The original normalizes to NFC; llama.cpp does not. The original is what the model was trained with.
      out.normalizer = R"({"type": "NFC"})";
      out.pre_tokenizer = sequence({split(kQwen2), bytes});
      break;
    case Rule::kTekken:
      out.pre_tokenizer = sequence({split(kTekken), bytes});
      out.ignore_merges = true;
      out.add_bos = true;
      break;
    case Rule::kFalcon:
      out.pre_tokenizer =
          sequence({split(R"([\p{P}\$\+<=>\^~\|`]+)"), split(kGpt2), split("[0-9][0-9][0-9]"), bytes});
      break;
    case Rule::kDefault:
      out.pre_tokenizer = sequence({split(R"([\p{P}\$\+<=>\^~\|]+)"), split(kGpt2), split(R"(\p{N}+)"),
                                    split("[0-9][0-9][0-9]"), bytes});
      break;
  }
  return out;
}

/// Steps one after the other, with the fields that change ids, absent ones at their defaults.
void add_steps(const nlohmann::json& step, std::vector<nlohmann::json>& out) {
  const std::string type = step.is_object() ? step.value("type", "") : "";
  if (type == "Sequence") {
    for (const nlohmann::json& inner : step.value("pretokenizers", nlohmann::json::array()))
      add_steps(inner, out);
  } else if (type == "ByteLevel") {
    out.push_back({{"type", type},
                   {"add_prefix_space", step.value("add_prefix_space", true)},
                   {"use_regex", step.value("use_regex", true)}});
  } else if (type == "Digits") {
    out.push_back({{"type", type}, {"individual_digits", step.value("individual_digits", false)}});
  } else if (type == "Split") {
    out.push_back({{"type", type},
                   {"pattern", step.value("pattern", nlohmann::json())},
                   {"behavior", step.value("behavior", "")},
                   {"invert", step.value("invert", false)}});
  } else {
    out.push_back(step);
  }
}

}  // namespace

NamedPreTokenizer named_pre_tokenizer(std::string_view name, std::string_view subject) {
  const auto found = std::find_if(std::begin(kNames), std::end(kNames),
                                  [&](const Name& known) { return known.name == name; });
  if (found == std::end(kNames)) {
    std::vector<std::string> known;
    for (const Name& item : kNames) {
      if (!item.name.empty()) known.emplace_back(item.name);
    }
    fail(ErrorKind::kUnsupported, "data.gguf_tokenizer", subject, ": tokenizer.ggml.pre is '", name,
         "'; crumb has ", join(known, ", "),
         "; use the Hugging Face directory of this model (its tokenizer.json says the rule itself)");
  }
  if (found->rule == Rule::kDefault) {
    log::warn(
        "[data.gguf_tokenizer] ", subject, ": tokenizer.ggml.pre is '", name,
        "', so the file does not say how to split text; token ids may differ from the original model's");
  }
  return pre_tokenizer_of(found->rule);
}

std::optional<std::string_view> find_pre_tokenizer_name(const nlohmann::json& pre_tokenizer,
                                                        bool ignore_merges) {
  std::vector<nlohmann::json> wanted;
  add_steps(pre_tokenizer, wanted);
  for (const Name& name : kNames) {
    if (name.name.empty()) continue;
    const NamedPreTokenizer known = pre_tokenizer_of(name.rule);
    std::vector<nlohmann::json> steps;
    add_steps(nlohmann::json::parse(known.pre_tokenizer), steps);
    if (known.ignore_merges == ignore_merges && steps == wanted) return name.name;
  }
  return std::nullopt;
}

}  // namespace crumb::data
