#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"
#include "data/bpe_tokenizer.h"
#include "data/pre_tokenizer_names.h"
#include "data/sentencepiece_tokenizer.h"
#include "data/tokenizer_json_writer.h"
#include "data/utf8.h"
#include "data/vocabulary_files.h"
#include "io/gguf.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.gguf_tokenizer";
constexpr std::string_view kByteLevelDecoder =
    R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})";

struct GgufVocabulary {
  std::string subject;
  std::vector<std::string> tokens;
  std::vector<std::int64_t> types;  // PieceType
  std::optional<std::int32_t> bos, eos, end_of_turn, unknown, padding;
};

std::optional<std::int32_t> special_id(const io::GgufFile& file, std::string_view name, std::size_t tokens) {
  const std::string key = cat("tokenizer.ggml.", name, "_token_id");
  const std::int64_t id = file.get_int(key, -1);
  if (id < 0) return std::nullopt;
  if (id >= static_cast<std::int64_t>(tokens)) {
    fail(ErrorKind::kCorrupt, kWhere, file.path().string(), ": ", key, " is ", id, " and there are ", tokens,
         " tokens; get the file again");
  }
  return static_cast<std::int32_t>(id);
}

GgufVocabulary read_vocabulary(const io::GgufFile& file) {
  GgufVocabulary vocabulary;
  vocabulary.subject = file.path().string();
  const auto* tokens = file.find_strings("tokenizer.ggml.tokens");
  if (tokens == nullptr || tokens->empty()) {
    fail(ErrorKind::kNotFound, kWhere, vocabulary.subject,
         ": no tokenizer.ggml.tokens; want a GGUF file with its tokenizer; use another file");
  }
  vocabulary.tokens = *tokens;
  const auto* types = file.find_ints("tokenizer.ggml.token_type");
  vocabulary.types = types != nullptr ? *types : std::vector<std::int64_t>(tokens->size(), 1);
  if (vocabulary.types.size() != tokens->size()) {
    fail(ErrorKind::kCorrupt, kWhere, vocabulary.subject, ": tokenizer.ggml.token_type has ",
         vocabulary.types.size(), " entries, tokens ", tokens->size(), "; want as many; get the file again");
  }
  std::unordered_set<std::string_view> seen;
  for (std::size_t i = 0; i < tokens->size(); ++i) {
    const std::int64_t type = vocabulary.types[i];
    if (type < 1 || type > 6) {
      fail(ErrorKind::kCorrupt, kWhere, vocabulary.subject, ": token ", i, " has type ", type,
           "; want 1 to 6; get the file again");
    }
    if (find_invalid_utf8(vocabulary.tokens[i]) != std::string::npos) {
      fail(ErrorKind::kCorrupt, kWhere, vocabulary.subject, ": token ", i,
           " is not valid UTF-8; want text; get the file again");
    }
    if (!seen.insert(vocabulary.tokens[i]).second) {
      fail(ErrorKind::kCorrupt, kWhere, vocabulary.subject, ": token ", i, " '", vocabulary.tokens[i],
           "' is there twice; want distinct tokens; get the file again");
    }
  }
  const std::size_t count = tokens->size();
  vocabulary.bos = special_id(file, "bos", count);
  vocabulary.eos = special_id(file, "eos", count);
  vocabulary.end_of_turn = special_id(file, "eot", count);
  vocabulary.unknown = special_id(file, "unknown", count);
  vocabulary.padding = special_id(file, "padding", count);
  return vocabulary;
}

TokenizerConfig make_config(const io::GgufFile& file, const GgufVocabulary& vocabulary, bool add_bos,
                            bool add_eos) {
  TokenizerConfig config;
  config.add_bos = add_bos;
  config.add_eos = add_eos;
  config.bos_id = vocabulary.bos;
  if (vocabulary.eos) config.eos_ids.push_back(*vocabulary.eos);
  if (vocabulary.end_of_turn && vocabulary.end_of_turn != vocabulary.eos)
    config.eos_ids.push_back(*vocabulary.end_of_turn);

  nlohmann::ordered_json json;
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  json["clean_up_tokenization_spaces"] = false;
  const auto set = [&](const char* key, const std::optional<std::int32_t>& id) {
    if (id) json[key] = vocabulary.tokens[static_cast<std::size_t>(*id)];
  };
  set("bos_token", vocabulary.bos);
  set("eos_token", vocabulary.eos);
  set("unk_token", vocabulary.unknown);
  set("pad_token", vocabulary.padding);
  json["add_bos_token"] = add_bos;
  json["add_eos_token"] = add_eos;
  const std::int64_t context =
      file.get_int(cat(file.get_string("general.architecture", ""), ".context_length"), 0);
  if (context > 0) json["model_max_length"] = context;
  const std::string chat = file.get_string("tokenizer.chat_template", "");
  if (!chat.empty() && find_invalid_utf8(chat) == std::string::npos) json["chat_template"] = chat;
  config.text = json.dump(2) + "\n";
  return config;
}

std::unique_ptr<Tokenizer> open_bpe(const io::GgufFile& file, const GgufVocabulary& vocabulary) {
  const NamedPreTokenizer rule =
      named_pre_tokenizer(file.get_string("tokenizer.ggml.pre", ""), vocabulary.subject);
  const auto* merges = file.find_strings("tokenizer.ggml.merges");
  if (merges == nullptr) {
    fail(ErrorKind::kCorrupt, kWhere, vocabulary.subject,
         ": no tokenizer.ggml.merges; a 'gpt2' tokenizer needs them; get the file again");
  }
  TokenizerJsonParts parts;
  parts.normalizer = rule.normalizer;
  parts.pre_tokenizer = rule.pre_tokenizer;
  parts.decoder = kByteLevelDecoder;
  parts.post_processor =
      R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
  parts.ignore_merges = rule.ignore_merges;
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    parts.vocabulary.emplace_back(vocabulary.tokens[i], id);
    const auto type = static_cast<PieceType>(vocabulary.types[i]);
    if (type != PieceType::kControl && type != PieceType::kUserDefined && type != PieceType::kUnknown)
      continue;
    AddedToken token;
    token.id = id;
    token.content = vocabulary.tokens[i];
    token.special = type != PieceType::kUserDefined;
    parts.added_tokens.push_back(token);
  }
  for (const std::string& merge : *merges) {
    const std::size_t space = merge.find(' ');
    if (space == std::string::npos) {
      fail(ErrorKind::kCorrupt, kWhere, vocabulary.subject, ": merge '", merge,
           "' has no space; want two tokens; get the file again");
    }
    parts.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  const bool add_bos = file.get_bool("tokenizer.ggml.add_bos_token", rule.add_bos);
  const bool add_eos = file.get_bool("tokenizer.ggml.add_eos_token", false);
  if (add_bos) parts.bos = vocabulary.bos;
  if (add_eos) parts.eos = vocabulary.eos;
  return std::make_unique<BpeTokenizer>(write_tokenizer_json(parts, vocabulary.subject), vocabulary.subject,
                                        make_config(file, vocabulary, add_bos, add_eos));
}

std::unique_ptr<Tokenizer> open_pieces(const io::GgufFile& file, const GgufVocabulary& vocabulary) {
  const auto* scores = file.find_floats("tokenizer.ggml.scores");
  if (scores == nullptr || scores->size() != vocabulary.tokens.size()) {
    fail(ErrorKind::kCorrupt, kWhere, vocabulary.subject, ": tokenizer.ggml.scores has ",
         scores == nullptr ? 0 : scores->size(), " entries; want ", vocabulary.tokens.size(),
         ", one for each token; get the file again");
  }
  SentencePieceModel model;
  model.algorithm = PieceAlgorithm::kBpe;
  model.remove_extra_whitespaces = false;
  model.add_dummy_prefix = file.get_bool("tokenizer.ggml.add_space_prefix", true);
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const auto type = static_cast<PieceType>(vocabulary.types[i]);
    if (type == PieceType::kByte) ++bytes;
    if (type == PieceType::kUnknown) model.unk_id = static_cast<std::int32_t>(i);
    model.pieces.push_back({vocabulary.tokens[i], static_cast<float>((*scores)[i]), type});
  }
  model.byte_fallback = bytes == 256;
  model.bos_id = vocabulary.bos.value_or(-1);
  model.eos_id = vocabulary.eos.value_or(-1);
  const bool add_bos = file.get_bool("tokenizer.ggml.add_bos_token", true);
  const bool add_eos = file.get_bool("tokenizer.ggml.add_eos_token", false);
  return std::make_unique<SentencePieceTokenizer>(serialize_sentencepiece_model(model), vocabulary.subject,
                                                  make_config(file, vocabulary, add_bos, add_eos));
}

}  // namespace

std::unique_ptr<Tokenizer> open_gguf_tokenizer(const std::filesystem::path& path) {
  const io::GgufFile file(path);
  const std::string model = file.get_string("tokenizer.ggml.model", "");
  if (model.empty() || model == "no_vocab") {
    fail(ErrorKind::kNotFound, kWhere, path.string(), ": ",
         model.empty() ? "no tokenizer.ggml.model" : "tokenizer.ggml.model is no_vocab",
         "; want a GGUF file with its tokenizer; use another file");
  }
  if (model != "gpt2" && model != "llama") {
    fail(ErrorKind::kUnsupported, kWhere, path.string(), ": tokenizer.ggml.model is '", model,
         "'; crumb has gpt2 and llama; use the Hugging Face directory of this model");
  }
  const GgufVocabulary vocabulary = read_vocabulary(file);
  return model == "gpt2" ? open_bpe(file, vocabulary) : open_pieces(file, vocabulary);
}

}  // namespace crumb::data
