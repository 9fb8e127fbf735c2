// How a model wants a conversation written down. docs/chat_templates.md.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/jinja/template.h"
#include "data/tokenizer.h"

namespace crumb::data {

struct ChatMessage {
  std::string role;     // "system", "user", "assistant"
  std::string content;  // UTF-8
};

/// The text that ChatTemplate::find takes, not parsed; "" where there is none.
std::string find_chat_template_text(const std::filesystem::path& model, const Tokenizer& tokenizer);

class ChatTemplate {
 public:
  /// Of a model directory (chat_template.jinja, else "chat_template" of tokenizer_config.json: a text, or a
  /// list of which "default" is taken) or of a GGUF file ("tokenizer.chat_template"). nullopt where there is
  /// none. Throws as jinja::Template.
  static std::optional<ChatTemplate> find(const std::filesystem::path& model, const Tokenizer& tokenizer);
  /// From a text of one's own; `tokenizer` gives the names of special tokens.
  ChatTemplate(std::string text, std::string_view subject, const Tokenizer& tokenizer);

  /// The text of the conversation; with `add_generation_prompt` up to where the assistant begins to write.
  /// `more` are further variables (enable_thinking, …). Throws InvalidArgument where the template refuses
  /// ("roles must alternate") or a message is not UTF-8; Unsupported as jinja::Template::render.
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt,
                     const nlohmann::ordered_json& more = nlohmann::ordered_json::object()) const;

  /// render() as ids, as transformers' apply_chat_template makes them: special tokens are those of the
  /// template's own text, so that there is never a second BOS. Text of special tokens inside a message counts
  /// as such too.
  std::vector<std::int32_t> encode(
      const Tokenizer& tokenizer, std::span<const ChatMessage> messages, bool add_generation_prompt,
      const nlohmann::ordered_json& more = nlohmann::ordered_json::object()) const;

  /// Ids that end the assistant's turn: the tokenizer's EOS, and well-known ends of a turn that the template
  /// writes
  /// ("<|im_end|>", "<|eot_id|>", …).
  std::vector<std::int32_t> stop_ids(const Tokenizer& tokenizer) const;

  const std::string& text() const { return text_; }

 private:
  std::string text_;
  jinja::Template template_;
  nlohmann::ordered_json special_;  // bos_token, eos_token, …
};

}  // namespace crumb::data
