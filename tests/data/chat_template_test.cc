#include "data/chat_template.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "base/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::data {
namespace {

using nlohmann::ordered_json;
using test::expect_error;

std::string render(const std::string& text, const ordered_json& variables = ordered_json::object(),
                   std::int64_t now = -1) {
  return jinja::Template(text, "chat.jinja").render(variables, now);
}

/// A vocabulary of bytes and three special tokens; with `prefix`, BOS is added to plain text.
void write_tokenizer(const std::filesystem::path& folder, const ordered_json& chat_template,
                     bool adds_bos = true) {
  ordered_json vocabulary = ordered_json::object(), added = ordered_json::array();
  int id = 0;
  for (const std::string word : {"<s>", "</s>", "<|im_end|>"}) {
    vocabulary[word] = id;
    added.push_back({{"id", id++},
                     {"content", word},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  for (int byte = 0; byte < 256; ++byte)
    vocabulary[cat("<0x", "0123456789ABCDEF"[byte / 16], "0123456789ABCDEF"[byte % 16], ">")] = id++;
  ordered_json json = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}}},
      {"model",
       {{"type", "BPE"}, {"byte_fallback", true}, {"vocab", vocabulary}, {"merges", ordered_json::array()}}}};
  if (adds_bos) {
    json["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"pair", ordered_json::array()},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {0}}, {"tokens", {"<s>"}}}}}}};
  }
  std::ofstream(folder / "tokenizer.json") << json.dump();
  ordered_json config = {{"bos_token", {{"content", "<s>"}}}, {"eos_token", "</s>"}};
  if (!chat_template.is_null()) config["chat_template"] = chat_template;
  std::ofstream(folder / "tokenizer_config.json") << config.dump();
}

const std::vector<ChatMessage> kHello = {{"user", "Hi"}};

TEST(ChatTemplate, NeverHasASecondBos) {
  const test::TempDir folder;
  write_tokenizer(folder.path(), "{{ bos_token }}{{ messages[0].content }}");
  const auto tokenizer = Tokenizer::open(folder.path());
  const auto chat = ChatTemplate::find(folder.path(), *tokenizer);
  ASSERT_TRUE(chat.has_value());
  const auto ids = chat->encode(*tokenizer, kHello, false);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{0, 3 + 'H', 3 + 'i'}));
  EXPECT_EQ(tokenizer->encode("Hi").front(), 0)
      << "plain text gets it from the tokenizer, so a doubled one was possible";
  // A template without BOS means it: transformers adds none either.
  const ChatTemplate without("{{ messages[0].content }}", "t", *tokenizer);
  EXPECT_EQ(without.encode(*tokenizer, kHello, false).front(), 3 + 'H');
}

TEST(ChatTemplate, TheFileOfItsOwnGoesBeforeTheConfiguration) {
  const test::TempDir folder;
  write_tokenizer(folder.path(), "from the configuration");
  const auto tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(ChatTemplate::find(folder.path(), *tokenizer)->render(kHello, true), "from the configuration");
  std::ofstream(folder / "chat_template.jinja") << "from the file";
  EXPECT_EQ(ChatTemplate::find(folder.path(), *tokenizer)->render(kHello, true), "from the file");
}

TEST(ChatTemplate, OfSeveralTheDefaultOneIsTaken) {
  const test::TempDir folder;
  write_tokenizer(folder.path(), {{{"name", "tool_use"}, {"template", "tools"}},
                                  {{"name", "default"}, {"template", "plain"}}});
  const auto tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(ChatTemplate::find(folder.path(), *tokenizer)->render(kHello, true), "plain");
  write_tokenizer(folder.path(), ordered_json::array({{{"name", "tool_use"}, {"template", "tools"}}}));
  const auto other = Tokenizer::open(folder.path());
  expect_error(ErrorKind::kUnsupported, {"tool_use", "--chat-template"},
               [&] { ChatTemplate::find(folder.path(), *other); });
}

TEST(ChatTemplate, AbsentIsNoError) {
  const test::TempDir folder;
  write_tokenizer(folder.path(), nullptr);
  EXPECT_FALSE(ChatTemplate::find(folder.path(), *Tokenizer::open(folder.path())).has_value());
}

TEST(ChatTemplate, EndsOfTurnsThatItWritesStopGeneration) {
  const test::TempDir folder;
  write_tokenizer(folder.path(), "{{ messages[0].content }}<|im_end|>");
  const auto tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(ChatTemplate::find(folder.path(), *tokenizer)->stop_ids(*tokenizer),
            (std::vector<std::int32_t>{1, 2}));
  EXPECT_EQ(ChatTemplate("{{ messages[0].content }}", "t", *tokenizer).stop_ids(*tokenizer),
            (std::vector<std::int32_t>{1}));
}

TEST(ChatTemplate, RefusesMessagesThatAreNoText) {
  const test::TempDir folder;
  write_tokenizer(folder.path(), "x");
  const auto tokenizer = Tokenizer::open(folder.path());
  const std::vector<ChatMessage> bad = {{"user", "a\xff"}};
  expect_error(ErrorKind::kInvalidArgument, {"user", "byte 1"},
               [&] { ChatTemplate::find(folder.path(), *tokenizer)->render(bad, true); });
}

TEST(Jinja, ErrorsNameFileLineAndReason) {
  expect_error(ErrorKind::kCorrupt, {"chat.jinja", "line 3", "'}}'"}, [] { render("a\n\n{{ x y }}"); });
  expect_error(ErrorKind::kCorrupt, {"line 2", "endfor"}, [] { render("\n{% for x in y %}x"); });
  expect_error(ErrorKind::kInvalidArgument, {"line 2", "roles must alternate"},
               [] { render("\n{{ raise_exception('roles must alternate') }}"); });
  expect_error(ErrorKind::kInvalidArgument, {"line 2", "'x' is undefined"}, [] { render("\n{{ x.y }}"); });
  expect_error(ErrorKind::kInvalidArgument, {"line 1", "str and int"}, [] { render("{{ 'a' + 1 }}"); });
}

TEST(Jinja, WhatItLeavesOutIsNamed) {
  for (const auto& [text, word] :
       {std::pair{"{% include 'x' %}", "include"}, std::pair{"{% block a %}{% endblock %}", "block"},
        std::pair{"{{ 2 ** 3 }}", "**"}, std::pair{"{{ x | urlize }}", "urlize"},
        std::pair{"{{ 1 is escaped }}", "escaped"}, std::pair{"{{ 'a'.zfill(3) }}", "zfill"},
        std::pair{"{{ [1].append(2) }}", "append"}, std::pair{"{% raw %}x{% endraw %}", "raw"},
        std::pair{"{{ '%d' % 3 }}", "%"}, std::pair{"{{ f(*x) }}", "*"},
        std::pair{"{% for a in b recursive %}{% endfor %}", "recursive"}, std::pair{"{{ {1: 2} }}", "key"}}) {
    expect_error(ErrorKind::kUnsupported, {"chat.jinja: line 1", word}, [text = text] {
      render(text, {{"x", "y"}});
    });
  }
}

TEST(Jinja, TellsTheTimeItIsGiven) {
  setenv("TZ", "UTC", 1);
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y') }}", {}, 86400 * 365), "01 Jan 1971");
  EXPECT_EQ(render("{{ strftime_now('%Y') | length }}"), "4");
}

TEST(Jinja, NoTemplateHangsOrOverflows) {
  const auto fails = [](const std::string& text) {
    EXPECT_THROW(render(text, {{"x", ordered_json::array({1})}}), Error) << text.substr(0, 40);
  };
  fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
  fails("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}");
  fails(
      "{% set ns = namespace(t='0123456789') %}{% for a in range(40) %}{% set ns.t = ns.t ~ ns.t %}{% endfor "
      "%}");
  fails("{{ 'x' * 999999999999 }}");
  fails("{{ 9223372036854775807 }}");
  fails("{{ 999999999999999999 * 999999999999999999 }}");
  const auto repeated = [](const std::string& word, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += word;
    return out;
  };
  fails("{{ " + repeated("(", 100000) + "1" + repeated(")", 100000) + " }}");
  fails("{{ " + repeated("[", 100000));
  fails("{{ " + repeated("not ", 100000) + "1 }}");
  fails("{{ " + repeated("-", 100000) + "1 }}");
  fails("{{ 1" + repeated(" + 1", 100000) + " }}");
  fails("{{ x" + repeated("[0]", 100000) + " }}");
  fails("{{ x" + repeated("|list", 100000) + " }}");
  fails(repeated("{% if 1 %}", 100000) + repeated("{% endif %}", 100000));
  EXPECT_EQ(render("{{ 1" + repeated(" + 1", 150) + " }}"), "151");
}

TEST(Jinja, SurvivesEveryCutOfATemplate) {
  const std::string text =
      "{% set ns = namespace(a='x') %}{% for m in messages[1:] %}{{- m['role'] ~ \"\\n\" | trim }}{# c #}{% "
      "endfor %}";
  for (std::size_t length = 0; length <= text.size(); ++length) {
    for (const bool front : {true, false}) {
      try {
        render(front ? text.substr(0, length) : text.substr(length), {{"messages", ordered_json::array()}});
      } catch (const Error& error) {
        EXPECT_NE(error.kind(), ErrorKind::kIo);
      }
    }
  }
}

}  // namespace
}  // namespace crumb::data
