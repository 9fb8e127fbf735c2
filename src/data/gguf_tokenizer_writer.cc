#include "data/gguf_tokenizer_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/log.h"
#include "data/bpe_model.h"
#include "data/chat_template.h"
#include "data/json_fields.h"
#include "data/pre_tokenizer_names.h"
#include "data/sentencepiece_proto.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "io/json.h"

namespace crumb::data {
namespace {

using nlohmann::json;
using Metadata = std::vector<std::pair<std::string, io::GgufValue>>;

constexpr std::string_view kWhere = "data.gguf_tokenizer_metadata";
constexpr std::string_view kSpace = "▁";

[[noreturn]] void refuse(const std::string& subject, const std::string& what) {
  fail(ErrorKind::kUnsupported, kWhere, subject, ": ", what,
       "; GGUF cannot say that, and other rules would give wrong ids; export to a Hugging Face format");
}

json section(const json& tokenizer, const char* key) {
  const auto found = tokenizer.find(key);
  return found == tokenizer.end() ? json() : *found;
}

struct Merge {
  std::string left, right;
};

/// tokenizer.json as tables.
struct Parts {
  std::string subject;
  json normalizer, pre_tokenizer, model;
  std::vector<std::string> tokens;  // by id; "" where there is none
  std::vector<PieceType> types;
  std::vector<Merge> merges;
};

std::vector<Merge> read_merges(const json& model, const std::string& subject) {
  std::vector<Merge> merges;
  for (const json& merge : section(model, "merges")) {
    if (merge.is_array()) {
      merges.push_back({merge.at(0).get<std::string>(), merge.at(1).get<std::string>()});
      continue;
    }
    const auto text = merge.get<std::string>();
    const std::size_t space = text.find(' ');
    merges.push_back({text.substr(0, space), text.substr(space + 1)});
  }
  const bool spaces = std::any_of(merges.begin(), merges.end(), [](const Merge& merge) {
    return merge.left.find(' ') != std::string::npos || merge.right.find(' ') != std::string::npos;
  });
  if (spaces) refuse(subject, "a merge of tokens with spaces in them");
  return merges;
}

// The text has been through a BpeTokenizer or was written by crumb, so its fields have their types.
Parts read_parts(const Tokenizer& tokenizer, const std::string& subject, std::int64_t vocab_size) {
  const json text = io::parse_json(tokenizer.to_tokenizer_json(), subject);
  Parts parts{
      subject, section(text, "normalizer"), section(text, "pre_tokenizer"), section(text, "model"), {}, {},
      {}};
  if (tokenizer.size() > vocab_size) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": ", tokenizer.size(), " ids, and the model has ", vocab_size,
         " rows; expected a row for each; is this the model's own tokenizer?");
  }
  parts.tokens.resize(static_cast<std::size_t>(vocab_size));
  parts.types.resize(parts.tokens.size(), PieceType::kUnused);
  const json vocabulary = section(parts.model, "vocab");
  for (const auto& [token, id] : vocabulary.items()) {
    parts.tokens.at(id.get<std::size_t>()) = token;
    parts.types.at(id.get<std::size_t>()) = PieceType::kNormal;
  }
  for (const json& added : section(text, "added_tokens")) {
    const auto id = field<std::size_t>(added, "id", subject);
    parts.tokens.at(id) = field<std::string>(added, "content", subject);
    parts.types.at(id) =
        field_or<bool>(added, "special", false, subject) ? PieceType::kControl : PieceType::kUserDefined;
    for (const char* rule : {"lstrip", "rstrip", "single_word"}) {
      if (field_or<bool>(added, rule, false, subject))
        log::warn("[", kWhere, "] ", subject, ": added token '", parts.tokens[id], "' has ", rule,
                  "; GGUF has no such rule, so ids beside it may differ");
    }
  }
  parts.merges = read_merges(parts.model, subject);
  return parts;
}

/// Every id has a text of its own.
void fill_gaps(Parts& parts) {
  std::unordered_set<std::string> taken(parts.tokens.begin(), parts.tokens.end());
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.types[id] != PieceType::kUnused) continue;
    std::string name = cat("[PAD", id, "]");
    while (!taken.insert(name).second) name = cat("[", name, "]");
    parts.tokens[id] = std::move(name);
  }
}

// ---- byte-level BPE

std::string pre_tokenizer_name_of(const Parts& parts) {
  const bool nfc = parts.normalizer.is_object() && section(parts.normalizer, "type") == "NFC";
  if (!parts.normalizer.is_null() && !nfc)
    refuse(parts.subject, cat("normalizer ", parts.normalizer.dump().substr(0, 80)));
  const bool ignore_merges = field_or<bool>(parts.model, "ignore_merges", false, parts.subject);
  const std::optional<std::string_view> name = find_pre_tokenizer_name(parts.pre_tokenizer, ignore_merges);
  if (!name) {
    refuse(parts.subject,
           cat("a pre-tokenizer that llama.cpp has no name for, as far as crumb knows (",
               parts.pre_tokenizer.dump().substr(0, 160), ignore_merges ? ", ignore_merges" : "", ")"));
  }
  if (nfc)
    log::warn("[", kWhere, "] ", parts.subject,
              ": the tokenizer normalizes text to NFC, llama.cpp does not: text in another form gets other "
              "ids there");
  return std::string(*name);
}

void add_byte_level(const Parts& parts, Metadata& out) {
  out.emplace_back("tokenizer.ggml.model", std::string("gpt2"));
  out.emplace_back("tokenizer.ggml.pre", pre_tokenizer_name_of(parts));
  std::vector<std::string> merges;
  merges.reserve(parts.merges.size());
  for (const Merge& merge : parts.merges) merges.push_back(cat(merge.left, " ", merge.right));
  out.emplace_back("tokenizer.ggml.merges", std::move(merges));
  out.emplace_back("tokenizer.ggml.add_space_prefix", false);
}

// ---- pieces with scores

/// Whether "▁" is put before a text, of the normalizers and pre-tokenizers that models of this kind have;
/// nullopt for others.
std::optional<bool> space_prefix(const Parts& parts) {
  const auto replaces = [](const json& step) {
    return section(step, "type") == "Replace" && section(step, "content") == kSpace &&
           section(step, "pattern") == json{{"String", " "}};
  };
  const json &normalizer = parts.normalizer, &pre = parts.pre_tokenizer;
  if (normalizer.is_null() && pre.is_object() && pre.value("type", "") == "Metaspace" &&
      pre.value("replacement", std::string(kSpace)) == kSpace) {
    const std::string scheme =
        pre.value("prepend_scheme", pre.value("add_prefix_space", true) ? "always" : "never");
    if (scheme == "first")
      log::warn("[", kWhere, "] ", parts.subject,
                ": the tokenizer puts a space before the first word only, llama.cpp "
                "also after special tokens");
    return scheme != "never";
  }
  // Gemma's pre-tokenizer splits at spaces, of which the normalizer has left none.
  const bool no_split =
      pre.is_null() || (pre.value("type", "") == "Split" && section(pre, "pattern") == json{{"String", " "}});
  if (!normalizer.is_object() || !no_split) return std::nullopt;
  if (replaces(normalizer)) return false;
  if (normalizer.value("type", "") != "Sequence") return std::nullopt;
  const json steps = section(normalizer, "normalizers");
  if (steps.size() != 2 || !replaces(steps[1])) return std::nullopt;
  if (section(steps[0], "type") != "Prepend" || section(steps[0], "prepend") != kSpace) return std::nullopt;
  return true;
}

bool is_byte_token(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') &&
         text.find_first_not_of("0123456789ABCDEF", 3) == 5;
}

/// SentencePiece joins the two neighbors whose joined piece has the best score, whatever their split. Minus
/// the rank of a token's first merge is such a score if all merges of a token stand together and every split
/// is among them.
std::vector<double> scores_from_merges(const Parts& parts) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.types[id] != PieceType::kUnused) ids.emplace(parts.tokens[id], id);
  }
  std::vector<double> scores(parts.tokens.size(), -static_cast<double>(parts.merges.size()));
  std::vector<std::size_t> splits(parts.tokens.size());
  std::size_t previous = parts.tokens.size();
  for (std::size_t rank = 0; rank < parts.merges.size(); ++rank) {
    const std::string joined = parts.merges[rank].left + parts.merges[rank].right;
    const std::size_t id = ids.at(joined);
    if (id != previous && splits[id] > 0)
      refuse(parts.subject,
             cat("merges of '", joined, "' stand apart, before and after those of other tokens"));
    if (splits[id]++ == 0) scores[id] = -static_cast<double>(rank);
    previous = id;
  }
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.types[id] != PieceType::kNormal) {
      scores[id] = 0;
      continue;
    }
    const std::string_view text = parts.tokens[id];
    std::size_t possible = 0;
    for (std::size_t at = utf8_length(text, 0); at < text.size(); at += utf8_length(text, at)) {
      const auto left = ids.find(text.substr(0, at)), right = ids.find(text.substr(at));
      possible += left != ids.end() && right != ids.end();
    }
    if (possible != splits[id] && !is_byte_token(text)) {
      refuse(parts.subject,
             cat("token '", text, "' has ", splits[id], " merges and ", possible, " splits into two tokens"));
    }
  }
  return scores;
}

void add_pieces(Parts& parts, bool prefix, Metadata& out) {
  out.emplace_back("tokenizer.ggml.model", std::string("llama"));
  out.emplace_back("tokenizer.ggml.pre", std::string("default"));
  out.emplace_back("tokenizer.ggml.scores", scores_from_merges(parts));
  out.emplace_back("tokenizer.ggml.add_space_prefix", prefix);
  const auto unknown = field_or<std::string>(parts.model, "unk_token", "", parts.subject);
  const bool bytes = field_or<bool>(parts.model, "byte_fallback", false, parts.subject);
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
    std::string& token = parts.tokens[id];
    if (!unknown.empty() && token == unknown) parts.types[id] = PieceType::kUnknown;
    if (bytes && parts.types[id] == PieceType::kNormal && is_byte_token(token))
      parts.types[id] = PieceType::kByte;
    if (parts.types[id] != PieceType::kUserDefined) continue;
    // llama.cpp looks for these in the text as it came.
    std::string text;
    for (std::size_t i = 0; i < token.size();) {
      const bool space = token.compare(i, kSpace.size(), kSpace) == 0;
      text.push_back(space ? ' ' : token[i]);
      i += space ? kSpace.size() : 1;
    }
    token = std::move(text);
  }
}

// ---- what both have

/// Whether encoding adds `id` at its end of a text; refuses other ids there.
bool adds(std::span<const std::int32_t> found, std::optional<std::int32_t> id, const char* what,
          const std::string& subject) {
  if (found.empty()) return false;
  if (found.size() == 1 && found.front() == id) return true;
  refuse(subject, cat("ids ", shape_string(found), " are added to a text, and not ", what, " alone"));
}

void add_special_ids(const Tokenizer& tokenizer, const Parts& parts, Metadata& out) {
  const json config = io::parse_json(tokenizer.to_tokenizer_config_json(), parts.subject);
  const auto named = [&](const char* key) -> std::optional<std::int32_t> {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) return std::nullopt;
    const std::string token = found->is_object() ? found->value("content", "") : found->get<std::string>();
    return tokenizer.token_id(token);
  };
  const auto put = [&](const char* name, std::optional<std::int32_t> id) {
    if (id) out.emplace_back(cat("tokenizer.ggml.", name, "_token_id"), static_cast<std::uint64_t>(*id));
  };
  const std::vector<std::int32_t> ends = tokenizer.eos_ids();
  std::optional<std::int32_t> eos = named("eos_token");
  if (!eos && !ends.empty()) eos = ends.front();
  const auto other = std::find_if(ends.begin(), ends.end(), [&](std::int32_t id) { return id != eos; });
  std::optional<std::int32_t> unknown = named("unk_token");
  for (std::size_t id = 0; id < parts.types.size(); ++id) {
    if (parts.types[id] == PieceType::kUnknown) unknown = static_cast<std::int32_t>(id);
  }
  put("bos", tokenizer.bos_id());
  put("eos", eos);
  if (other != ends.end()) put("eot", *other);
  put("unknown", unknown);
  put("padding", named("pad_token"));

  const std::vector<std::int32_t> plain = tokenizer.encode("a", false), whole = tokenizer.encode("a", true);
  const auto at = std::search(whole.begin(), whole.end(), plain.begin(), plain.end());
  if (at == whole.end()) refuse(parts.subject, "special tokens that change the ids of the text beside them");
  const auto before = static_cast<std::size_t>(at - whole.begin());
  const std::span<const std::int32_t> ids(whole);
  out.emplace_back("tokenizer.ggml.add_bos_token",
                   adds(ids.first(before), tokenizer.bos_id(), "BOS", parts.subject));
  out.emplace_back("tokenizer.ggml.add_eos_token",
                   adds(ids.subspan(before + plain.size()), eos, "EOS", parts.subject));
}

void add_chat_template(const std::filesystem::path& model, const Tokenizer& tokenizer, Metadata& out) {
  try {
    std::string text = find_chat_template_text(model, tokenizer);
    if (!text.empty()) out.emplace_back("tokenizer.chat_template", std::move(text));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported) throw;
    log::warn(error.what(), "; left out of the GGUF file");  // several templates, none of them the default
  }
}

Metadata copied_from_gguf(const std::filesystem::path& path) {
  Metadata out;
  const io::GgufFile file(path);
  for (const auto& [key, value] : file.metadata()) {
    if (key.starts_with("tokenizer.")) out.emplace_back(key, value);
  }
  return out;
}

}  // namespace

Metadata gguf_tokenizer_metadata(const std::filesystem::path& model, std::int64_t vocab_size) {
  if (model.extension() == ".gguf") return copied_from_gguf(model);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::open(model);
  Parts parts = read_parts(*tokenizer, model.string(), vocab_size);
  Metadata out;
  if (const std::optional<bool> prefix = space_prefix(parts)) {
    add_pieces(parts, *prefix, out);
  } else {
    add_byte_level(parts, out);
  }
  fill_gaps(parts);
  std::vector<std::int64_t> types;
  types.reserve(parts.types.size());
  for (const PieceType type : parts.types) types.push_back(static_cast<std::int64_t>(type));
  add_special_ids(*tokenizer, parts, out);
  out.emplace_back("tokenizer.ggml.tokens", std::move(parts.tokens));
  out.emplace_back("tokenizer.ggml.token_type", std::move(types));
  add_chat_template(model, *tokenizer, out);
  return out;
}

}  // namespace crumb::data
