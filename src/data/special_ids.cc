#include "data/special_ids.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/json_fields.h"
#include "io/json.h"

namespace crumb::data {
namespace {

// A token field is "text" or {"content": "text", …}.
std::string token_text(const nlohmann::json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object()) return found->value("content", std::string());
  return {};
}

nlohmann::json read_object(const std::filesystem::path& path, std::string* text) {
  if (!std::filesystem::exists(path)) return nlohmann::json::object();
  std::string content = io::read_text_file(path);
  nlohmann::json json = io::parse_json(content, path.string());
  if (!json.is_object()) {
    fail(ErrorKind::kCorrupt, "data.tokenizer_config", path.string(), ": found ", json.type_name(),
         "; want a JSON object; get the file again");
  }
  if (text != nullptr) *text = std::move(content);
  return json;
}

void read_ids(const nlohmann::json& config, const std::string& subject, TokenizerConfig& out) {
  if (!out.bos_id && config.contains("bos_token_id") && config["bos_token_id"].is_number_integer()) {
    out.bos_id = field<std::int32_t>(config, "bos_token_id", subject);
  }
  if (!out.eos_ids.empty() || !config.contains("eos_token_id")) return;
  const auto& eos = config["eos_token_id"];
  if (eos.is_number_integer()) out.eos_ids = {field<std::int32_t>(config, "eos_token_id", subject)};
  if (eos.is_array()) out.eos_ids = field<std::vector<std::int32_t>>(config, "eos_token_id", subject);
}

}  // namespace

TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder) {
  TokenizerConfig out;
  const std::filesystem::path path = folder / "tokenizer_config.json";
  const std::string subject = path.string();
  const nlohmann::json config = read_object(path, &out.text);
  out.bos_token = token_text(config, "bos_token");
  out.eos_token = token_text(config, "eos_token");
  if (config.contains("add_bos_token") && config["add_bos_token"].is_boolean())
    out.add_bos = config["add_bos_token"].get<bool>();
  if (config.contains("add_eos_token") && config["add_eos_token"].is_boolean())
    out.add_eos = config["add_eos_token"].get<bool>();
  const auto added = config.find("added_tokens_decoder");
  if (added != config.end() && added->is_object()) {
    for (const auto& [key, value] : added->items()) {
      const bool digits = !key.empty() && key.size() < 9 &&
                          std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!digits || !value.is_object()) {
        fail(ErrorKind::kCorrupt, "data.tokenizer_config", subject, ": added_tokens_decoder has key '", key,
             "'; want token ids with objects; get the file again");
      }
      out.added_tokens.push_back({std::stoi(key), field<std::string>(value, "content", subject),
                                  field_or<bool>(value, "special", false, subject)});
    }
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    read_ids(read_object(folder / name, nullptr), (folder / name).string(), out);
  }
  return out;
}

SpecialIds TokenizerConfig::resolve(
    const std::function<std::optional<std::int32_t>(std::string_view)>& token_id) const {
  SpecialIds ids;
  ids.bos = bos_token.empty() ? std::nullopt : token_id(bos_token);
  if (!ids.bos) ids.bos = bos_id;
  ids.eos = eos_ids;
  if (const auto eos = eos_token.empty() ? std::nullopt : token_id(eos_token)) {
    if (std::find(ids.eos.begin(), ids.eos.end(), *eos) == ids.eos.end()) ids.eos.push_back(*eos);
  }
  return ids;
}

}  // namespace crumb::data
