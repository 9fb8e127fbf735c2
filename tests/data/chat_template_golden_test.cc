// Our Jinja against Python's: expected.json is what jinja2 made of the same templates
// (chat/make_expected.py).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "data/chat_template.h"
#include "data/jinja/template.h"
#include "io/json.h"
#include "support/shared_data.h"

namespace crumb::data {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(CRUMB_SOURCE_DIR) / "tests/data/chat";

nlohmann::ordered_json expected() {
  return io::parse_ordered_json(io::read_text_file(kFolder / "expected.json"), "expected.json")["cases"];
}

std::string text_of(const nlohmann::ordered_json& one) {
  return one.contains("file") ? io::read_text_file(kFolder / one["file"].get<std::string>())
                              : one["template"].get<std::string>();
}

TEST(JinjaGolden, RendersWhatPythonRenders) {
  std::set<std::string> files;
  int texts = 0, errors = 0;
  for (const auto& one : expected()) {
    const std::string what = one.contains("file")
                                 ? cat(one["file"].get<std::string>(), " with ", one["variables"].dump())
                                 : one["template"].get<std::string>();
    if (one.contains("file")) files.insert(one["file"].get<std::string>());
    if (one.contains("error")) {
      ++errors;
      EXPECT_THROW(jinja::Template(text_of(one), "t").render(one["variables"]), Error)
          << what << "\njinja2: " << one["why"];
      continue;
    }
    ++texts;
    try {
      EXPECT_EQ(jinja::Template(text_of(one), "t").render(one["variables"]), one["text"].get<std::string>())
          << what;
    } catch (const Error& error) {
      ADD_FAILURE() << what << "\n" << error.what();
    }
  }
  EXPECT_GE(files.size(), 5u);
  EXPECT_GT(texts, 150);
  EXPECT_GT(errors, 30);
}

TEST(JinjaGolden, NoticesOneChangedByteOfATemplate) {
  // The comparison must be able to fail: a template with one space more differs somewhere.
  const auto all = expected();
  int differ = 0;
  for (const auto& one : all) {
    if (!one.contains("file") || one.contains("error")) continue;
    std::string text = text_of(one);
    text.insert(text.find("'<|") != std::string::npos       ? text.find("'<|") + 1
                : text.find("\"[INST") != std::string::npos ? text.find("\"[INST") + 1
                                                            : text.find("<|"),
                " ");
    if (jinja::Template(text, "t").render(one["variables"]) != one["text"].get<std::string>()) ++differ;
  }
  EXPECT_GT(differ, 40);
}

/// The demo's model, where scripts/demo_data.sh has put it.
TEST(ChatTemplateGolden, RendersTheTemplateOfARealGguf) {
  const std::filesystem::path model =
      std::filesystem::path(CRUMB_SOURCE_DIR) / "demo/model/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << "demo/model is not here (scripts/demo_data.sh)";
  const auto tokenizer = Tokenizer::open(model);
  const auto chat = ChatTemplate::find(model, *tokenizer);
  ASSERT_TRUE(chat.has_value());
  const std::vector<ChatMessage> messages = {{"system", "Be brief."}, {"user", "Hi"}};
  EXPECT_EQ(
      chat->render(messages, true),
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  const std::vector<std::int32_t> ids = chat->encode(*tokenizer, messages, true);
  EXPECT_EQ(ids.front(), tokenizer->token_id("<|im_start|>"));
  EXPECT_EQ(tokenizer->decode(ids, false), chat->render(messages, true));
}

}  // namespace
}  // namespace crumb::data
