#include "data/chat_template.h"

#include <algorithm>

#include "base/error.h"
#include "data/utf8.h"
#include "io/json.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.chat_template";

/// The text in a tokenizer_config.json; "" where there is none.
std::string configured_template(const nlohmann::json& config, const std::string& subject) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    std::vector<std::string> names;
    for (const auto& entry : *found) {
      if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
          !entry.contains("template") || !entry["template"].is_string()) {
        fail(ErrorKind::kCorrupt, kWhere, subject,
             ": an entry of chat_template has no name and template; get the file again");
      }
      if (entry["name"] == "default") return entry["template"].get<std::string>();
      names.push_back(entry["name"].get<std::string>());
    }
    fail(ErrorKind::kUnsupported, kWhere, subject, ": chat templates ", join(names, ", "),
         " and no 'default'; give one with --chat-template");
  }
  fail(ErrorKind::kCorrupt, kWhere, subject, ": chat_template is ", found->type_name(),
       "; want a text; get the file again");
}

std::string subject_of(const std::filesystem::path& model) {
  return (std::filesystem::is_directory(model) ? model / "tokenizer_config.json" : model).string();
}

}  // namespace

std::string find_chat_template_text(const std::filesystem::path& model, const Tokenizer& tokenizer) {
  const std::filesystem::path file = model / "chat_template.jinja";
  if (std::filesystem::is_directory(model) && std::filesystem::exists(file)) return io::read_text_file(file);
  const std::string subject = subject_of(model);
  return configured_template(io::parse_json(tokenizer.to_tokenizer_config_json(), subject), subject);
}

std::optional<ChatTemplate> ChatTemplate::find(const std::filesystem::path& model,
                                               const Tokenizer& tokenizer) {
  std::string text = find_chat_template_text(model, tokenizer);
  if (text.empty()) return std::nullopt;
  const std::filesystem::path file = model / "chat_template.jinja";
  const bool own_file = std::filesystem::is_directory(model) && std::filesystem::exists(file);
  return ChatTemplate(std::move(text), own_file ? file.string() : subject_of(model) + " (chat_template)",
                      tokenizer);
}

ChatTemplate::ChatTemplate(std::string text, std::string_view subject, const Tokenizer& tokenizer)
    : text_(std::move(text)), template_(text_, subject), special_(nlohmann::ordered_json::object()) {
  const nlohmann::json config = io::parse_json(tokenizer.to_tokenizer_config_json(), subject);
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto found = config.find(key);
    if (found == config.end()) continue;
    if (found->is_string()) special_[key] = found->get<std::string>();
    if (found->is_object() && found->contains("content") && (*found)["content"].is_string())
      special_[key] = (*found)["content"];
  }
  // Tokenizers without a configuration know their special ids all the same.
  const auto from_id = [&](const char* key, std::optional<std::int32_t> id) {
    if (id && !special_.contains(key)) special_[key] = tokenizer.decode({&*id, 1}, false);
  };
  from_id("bos_token", tokenizer.bos_id());
  if (!tokenizer.eos_ids().empty()) from_id("eos_token", tokenizer.eos_ids().front());
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool add_generation_prompt,
                                 const nlohmann::ordered_json& more) const {
  nlohmann::ordered_json variables = special_;
  variables["messages"] = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages) {
    if (const std::size_t bad = find_invalid_utf8(message.content); bad != std::string::npos) {
      fail(ErrorKind::kInvalidArgument, kWhere, "a message of role ", message.role, ": byte ", bad,
           " is not valid UTF-8; expected text");
    }
    variables["messages"].push_back({{"role", message.role}, {"content", message.content}});
  }
  variables["add_generation_prompt"] = add_generation_prompt;
  variables["tools"] = nullptr;
  variables["documents"] = nullptr;
  for (const auto& [key, value] : more.items()) variables[key] = value;
  return template_.render(variables);
}

std::vector<std::int32_t> ChatTemplate::encode(const Tokenizer& tokenizer,
                                               std::span<const ChatMessage> messages,
                                               bool add_generation_prompt,
                                               const nlohmann::ordered_json& more) const {
  return tokenizer.encode(render(messages, add_generation_prompt, more), false, true);
}

std::vector<std::int32_t> ChatTemplate::stop_ids(const Tokenizer& tokenizer) const {
  std::vector<std::int32_t> ids = tokenizer.eos_ids();
  for (const char* word : {"<|im_end|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>",
                           "<end_of_turn>", "<|eom_id|>"}) {
    if (text_.find(word) == std::string::npos) continue;
    const auto id = tokenizer.token_id(word);
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  }
  return ids;
}

}  // namespace crumb::data
