#include "data/tokenizer.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/bpe_tokenizer.h"
#include "data/json_fields.h"
#include "data/pre_tokenizer_names.h"
#include "data/sentencepiece_tokenizer.h"
#include "data/tokenizer_json_writer.h"
#include "data/utf8.h"
#include "data/vocabulary_files.h"
#include "io/json.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.tokenizer";

std::unique_ptr<Tokenizer> open_model_file(const std::filesystem::path& path, const TokenizerConfig& config) {
  std::string bytes = io::read_text_file(path);
  if (looks_like_rank_file(bytes)) return open_rank_file(bytes, path.string(), config);
  return std::make_unique<SentencePieceTokenizer>(std::move(bytes), path.string(), config);
}

bool starts_with_gguf(const std::filesystem::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  char magic[4] = {};
  const std::size_t read = std::fread(magic, 1, sizeof magic, file);
  std::fclose(file);
  return read == sizeof magic && std::string_view(magic, sizeof magic) == "GGUF";
}

}  // namespace

std::unique_ptr<Tokenizer> open_vocab_and_merges(const std::filesystem::path& vocab,
                                                 const std::filesystem::path& merges,
                                                 const TokenizerConfig& config) {
  const nlohmann::json json = io::parse_json(io::read_text_file(vocab), vocab.string());
  if (!json.is_object() || json.empty()) {
    fail(ErrorKind::kCorrupt, kWhere, vocab.string(), ": found ", json.type_name(),
         "; want an object of tokens and ids; get the file again");
  }
  TokenizerJsonParts parts;
  parts.pre_tokenizer = named_pre_tokenizer("gpt-2", vocab.string()).pre_tokenizer;
  parts.decoder =
      R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})";
  for (const auto& [token, id] : json.items()) {
    parts.vocabulary.emplace_back(token, field<std::int32_t>(json, token.c_str(), vocab.string()));
    if (token != "<|endoftext|>") continue;
    AddedToken special;
    special.id = parts.vocabulary.back().second;
    special.content = token;
    special.special = true;
    parts.added_tokens.push_back(special);
  }
  const std::string text = io::read_text_file(merges);
  std::string_view rest = text;
  for (std::size_t line = 1; !rest.empty(); ++line) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view merge = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (merge.ends_with('\r')) merge.remove_suffix(1);
    if (merge.empty() || (line == 1 && merge.starts_with("#version"))) continue;
    const std::size_t space = merge.find(' ');
    if (space == std::string_view::npos) {
      fail(ErrorKind::kCorrupt, kWhere, merges.string(), ": line ", line,
           " has no space; want two tokens; get the file again");
    }
    parts.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  TokenizerConfig complete = config;
  if (complete.bos_token.empty() && !parts.added_tokens.empty()) complete.bos_token = "<|endoftext|>";
  if (complete.eos_token.empty() && !parts.added_tokens.empty()) complete.eos_token = "<|endoftext|>";
  return std::make_unique<BpeTokenizer>(write_tokenizer_json(parts, vocab.string()), vocab.string(),
                                        complete);
}

std::unique_ptr<Tokenizer> Tokenizer::open(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) {
    fail(ErrorKind::kNotFound, kWhere, path.string(),
         ": not there; want a model directory, tokenizer.json, tokenizer.model or GGUF file; check the path");
  }
  const auto open_json = [](const std::filesystem::path& file) {
    return std::make_unique<BpeTokenizer>(io::read_text_file(file), file.string(),
                                          read_tokenizer_config(file.parent_path()));
  };
  if (std::filesystem::is_directory(path)) {
    if (std::filesystem::exists(path / "tokenizer.json")) return open_json(path / "tokenizer.json");
    if (std::filesystem::exists(path / "tokenizer.model"))
      return open_model_file(path / "tokenizer.model", read_tokenizer_config(path));
    if (std::filesystem::exists(path / "vocab.json") && std::filesystem::exists(path / "merges.txt")) {
      return open_vocab_and_merges(path / "vocab.json", path / "merges.txt", read_tokenizer_config(path));
    }
    fail(ErrorKind::kNotFound, kWhere, path.string(),
         ": no tokenizer.json, tokenizer.model, or vocab.json with merges.txt; want one of them; copy the "
         "model's tokenizer files there");
  }
  if (starts_with_gguf(path)) return open_gguf_tokenizer(path);
  if (path.extension() == ".json") return open_json(path);
  if (path.extension() == ".model") return open_model_file(path, read_tokenizer_config(path.parent_path()));
  fail(ErrorKind::kUnsupported, kWhere, path.string(),
       ": a file of another kind; want a model directory, tokenizer.json, tokenizer.model or GGUF file; name "
       "one of these");
}

}  // namespace crumb::data
