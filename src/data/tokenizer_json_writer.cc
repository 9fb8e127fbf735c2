#include "data/tokenizer_json_writer.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/utf8.h"

namespace crumb::data {
namespace {

const char* boolean(bool value) {
  return value ? "true" : "false";
}

std::string token_of(const TokenizerJsonParts& parts, std::int32_t id, std::string_view subject) {
  for (const auto& token : parts.added_tokens) {
    if (token.id == id) return token.content;
  }
  for (const auto& [token, token_id] : parts.vocabulary) {
    if (token_id == id) return token;
  }
  fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": the BOS or EOS id ", id,
       " has no token; want an id of the vocabulary; get the file again");
}

std::string template_processing(const TokenizerJsonParts& parts, std::string_view subject) {
  const auto special = [](const std::string& token) {
    return R"({"SpecialToken": {"id": )" + json_string(token) + R"(, "type_id": 0}})";
  };
  std::string single, tokens;
  const auto declare = [&](std::int32_t id, const std::string& token) {
    if (!tokens.empty()) tokens += ", ";
    const std::string name = json_string(token);
    tokens += cat(name, ": {\"id\": ", name, ", \"ids\": [", id, "], \"tokens\": [", name, "]}");
  };
  std::string pair;
  if (parts.bos) {
    const std::string token = token_of(parts, *parts.bos, subject);
    single = special(token) + ", ";
    declare(*parts.bos, token);
  }
  single += R"({"Sequence": {"id": "A", "type_id": 0}})";
  if (parts.eos) {
    const std::string token = token_of(parts, *parts.eos, subject);
    single += ", " + special(token);
    if (parts.eos != parts.bos) declare(*parts.eos, token);
  }
  pair = single;
  std::string second = single;
  for (std::size_t at = 0; (at = second.find(R"("id": "A", "type_id": 0)", at)) != std::string::npos;)
    second.replace(at, 23, R"("id": "B", "type_id": 1)");
  pair += ", " + second;
  return R"({"type": "TemplateProcessing", "single": [)" + single + R"(], "pair": [)" + pair +
         R"(], "special_tokens": {)" + tokens + "}}";
}

}  // namespace

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump();
}

std::string write_tokenizer_json(const TokenizerJsonParts& parts, std::string_view subject) {
  for (const auto& [token, id] : parts.vocabulary) {
    if (find_invalid_utf8(token) != std::string::npos) {
      fail(ErrorKind::kCorrupt, "data.tokenizer_json", subject, ": token ", id,
           " is not valid UTF-8; want text; get the file again");
    }
  }
  std::string out =
      "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [";
  const char* separator = "\n    ";
  for (const AddedToken& token : parts.added_tokens) {
    out += separator;
    out += "{\"id\": " + std::to_string(token.id) + ", \"content\": " + json_string(token.content) +
           ", \"single_word\": " + boolean(token.single_word) + ", \"lstrip\": " + boolean(token.left_strip) +
           ", \"rstrip\": " + boolean(token.right_strip) + ", \"normalized\": " + boolean(token.normalized) +
           ", \"special\": " + boolean(token.special) + "}";
    separator = ",\n    ";
  }
  const bool has_template = parts.bos || parts.eos;
  out +=
      "\n  ],\n  \"normalizer\": " + parts.normalizer + ",\n  \"pre_tokenizer\": " + parts.pre_tokenizer +
      ",\n  \"post_processor\": " +
      (has_template ? template_processing(parts, subject) : parts.post_processor) +
      ",\n  \"decoder\": " + parts.decoder +
      ",\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": " +
      (parts.unknown_token ? json_string(*parts.unknown_token) : "null") +
      ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": " +
      boolean(parts.fuse_unknown) + ",\n    \"byte_fallback\": " + boolean(parts.byte_fallback) +
      ",\n    \"ignore_merges\": " + boolean(parts.ignore_merges) + ",\n    \"vocab\": {";
  separator = "\n      ";
  for (const auto& [token, id] : parts.vocabulary) {
    out += separator;
    out += json_string(token) + ": " + std::to_string(id);
    separator = ",\n      ";
  }
  out += "\n    },\n    \"merges\": [";
  separator = "\n      ";
  for (const auto& [left, right] : parts.merges) {
    out += separator;
    out.append("[").append(json_string(left)).append(", ").append(json_string(right)).append("]");
    separator = ",\n      ";
  }
  out += "\n    ]\n  }\n}\n";
  return out;
}

}  // namespace crumb::data
