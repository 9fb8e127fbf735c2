// Tokenizers as GGUF metadata, read again by the GGUF reader.
// bench/gguf_tokens.py.
#include "data/gguf_tokenizer_writer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/tokenizer.h"
#include "data/tokenizer_vectors.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::data {
namespace {

using Ids = std::vector<std::int32_t>;
using Metadata = std::vector<std::pair<std::string, io::GgufValue>>;
using test::expect_error;
using test::TinyTokenizerJson;
namespace fs = std::filesystem;

std::unique_ptr<Tokenizer> reopened(const fs::path& folder, const Metadata& metadata) {
  Metadata all = {{"general.architecture", std::string("llama")}};
  all.insert(all.end(), metadata.begin(), metadata.end());
  io::write_gguf(folder / "tokenizer.gguf", all, {});
  return Tokenizer::open(folder / "tokenizer.gguf");
}

template <class T>
T value_of(const Metadata& metadata, std::string_view key) {
  for (const auto& [name, value] : metadata) {
    if (name == key) return std::get<T>(value);
  }
  ADD_FAILURE() << "no key " << key;
  return T{};
}

const char* const kTexts[] = {"Hello world",
                              "  two  spaces ",
                              "don't DON'T we'LL",
                              "12345 67",
                              "a\n\nb\r\n c\t\td",
                              "naïve café 東京 😶‍🌫️",
                              "x = {1: [2.5e-3]}",
                              "<|im_start|>user\nHi<|im_end|>",
                              "</s>a<s> b",
                              "",
                              " ",
                              "▁a ▁"};

void expect_same_tokenizer(const Tokenizer& found, const Tokenizer& expected) {
  for (const char* text : kTexts) {
    for (const bool special : {true, false}) {
      EXPECT_EQ(found.encode(text, special), expected.encode(text, special)) << text;
      EXPECT_EQ(found.decode(found.encode(text, special)), expected.decode(expected.encode(text, special)))
          << text;
    }
  }
  EXPECT_EQ(found.bos_id(), expected.bos_id());
}

// ---- byte-level BPE

struct ByteLevel : testing::Test {
  void SetUp() override {
    json.added_tokens =
        R"([{"id": 14, "content": "<s>", "special": true}, {"id": 15, "content": "</s>", "special": true},)"
        R"( {"id": 17, "content": "<tool>", "special": false}])";
  }
  Metadata write(std::int64_t vocab_size = 18) {
    test::write_file(folder / "tokenizer.json", json.text());
    test::write_file(folder / "tokenizer_config.json", config);
    return gguf_tokenizer_metadata(folder.path(), vocab_size);
  }
  test::TempDir folder;
  TinyTokenizerJson json;
  std::string config =
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "</s>", "chat_template": "{{ x }}"})";
};

TEST_F(ByteLevel, HasTokensTypesMergesAndIds) {
  const Metadata metadata = write(20);
  EXPECT_EQ(value_of<std::string>(metadata, "tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(value_of<std::string>(metadata, "tokenizer.ggml.pre"), "gpt-2");
  const auto tokens = value_of<std::vector<std::string>>(metadata, "tokenizer.ggml.tokens");
  ASSERT_EQ(tokens.size(), 20u);
  EXPECT_EQ(tokens[6], "Ġa");
  EXPECT_EQ(tokens[16], "[PAD16]");
  EXPECT_EQ(tokens[17], "<tool>");
  EXPECT_EQ(tokens[19], "[PAD19]");
  const auto types = value_of<std::vector<std::int64_t>>(metadata, "tokenizer.ggml.token_type");
  EXPECT_EQ((std::vector<std::int64_t>{types.begin() + 13, types.end()}),
            (std::vector<std::int64_t>{1, 3, 3, 5, 4, 5, 5}));
  EXPECT_EQ(value_of<std::vector<std::string>>(metadata, "tokenizer.ggml.merges"),
            (std::vector<std::string>{"a b", "ab c", "Ġ a", "1 2", "Ã ©"}));
  EXPECT_EQ(value_of<std::uint64_t>(metadata, "tokenizer.ggml.bos_token_id"), 14u);
  EXPECT_EQ(value_of<std::uint64_t>(metadata, "tokenizer.ggml.eos_token_id"), 15u);
  EXPECT_EQ(value_of<std::uint64_t>(metadata, "tokenizer.ggml.padding_token_id"), 15u);
  EXPECT_FALSE(value_of<bool>(metadata, "tokenizer.ggml.add_bos_token"));
  EXPECT_FALSE(value_of<bool>(metadata, "tokenizer.ggml.add_eos_token"));
  EXPECT_FALSE(value_of<bool>(metadata, "tokenizer.ggml.add_space_prefix"));
  EXPECT_EQ(value_of<std::string>(metadata, "tokenizer.chat_template"), "{{ x }}");
  const auto again = reopened(folder.path(), metadata);
  EXPECT_EQ(again->encode("abc a<tool>12<s>"), Tokenizer::open(folder.path())->encode("abc a<tool>12<s>"));
  EXPECT_EQ(again->encode("abc a<tool>12<s>"), (Ids{5, 6, 17, 9, 14}));
}

TEST_F(ByteLevel, FindsTheNameOfEveryKnownPreTokenizer) {
  const std::string bytes =
      R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false})";
  const std::string gpt2 = R"({"type": "ByteLevel", "add_prefix_space": false})";
  const auto with = [](const std::string& first, const std::string& second) {
    return R"({"type": "Sequence", "pretokenizers": [)" + first + ", " + second + "]}";
  };
  const auto split = [](const std::string& expression) {
    return R"({"type": "Split", "pattern": {"Regex": )" + nlohmann::json(expression).dump() +
           R"(}, "behavior": "Isolated", "invert": false})";
  };
  const std::string start = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})",
                    end = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  struct Case {
    std::string pre_tokenizer, normalizer;
    bool ignore_merges;
    const char* name;
  };
  const Case cases[] = {
      {gpt2, "null", false, "gpt-2"},
      {R"({"type": "Sequence", "pretokenizers": [)" + gpt2 + "]}", "null", false, "gpt-2"},
      {with(R"({"type": "Digits", "individual_digits": true})", gpt2), "null", false, "smollm"},
      {with(split(start + "{1,3}" + end), bytes), "null", true, "llama-bpe"},
      {with(split(start + "{1,3}" + end), bytes), "null", false, "dbrx"},
      {with(split(start + end), bytes), R"({"type": "NFC"})", false, "qwen2"},
  };
  for (const Case& c : cases) {
    json.pre_tokenizer = c.pre_tokenizer;
    json.normalizer = c.normalizer;
    json.model_fields = c.ignore_merges ? R"(, "ignore_merges": true)" : "";
    EXPECT_EQ(value_of<std::string>(write(), "tokenizer.ggml.pre"), c.name);
  }
  // One character of the expression makes it another.
  json.pre_tokenizer = with(split(start + "{1,4}" + end), bytes);
  expect_error(ErrorKind::kUnsupported, {"pre-tokenizer", "{1,4}", "wrong ids"}, [&] { write(); });
  json.pre_tokenizer = R"({"type": "ByteLevel", "add_prefix_space": true})";
  expect_error(ErrorKind::kUnsupported, {"pre-tokenizer", "add_prefix_space"}, [&] { write(); });
  json.pre_tokenizer = gpt2;
  json.normalizer = R"({"type": "NFKC"})";
  expect_error(ErrorKind::kUnsupported, {"normalizer", "NFKC"}, [&] { write(); });
}

TEST_F(ByteLevel, SaysWhetherBosAndEosAreAdded) {
  const auto process = [&](const std::string& before, const std::string& after) {
    const auto special = [](const std::string& token) {
      return R"({"SpecialToken": {"id": ")" + token + R"(", "type_id": 0}})";
    };
    json.post_processor =
        R"({"type": "TemplateProcessing", "single": [)" + (before.empty() ? "" : special(before) + ", ") +
        R"({"Sequence": {"id": "A", "type_id": 0}})" + (after.empty() ? "" : ", " + special(after)) +
        R"(], "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [14], "tokens": ["<s>"]},)"
        R"( "</s>": {"id": "</s>", "ids": [15], "tokens": ["</s>"]}}})";
    return write();
  };
  Metadata metadata = process("<s>", "");
  EXPECT_TRUE(value_of<bool>(metadata, "tokenizer.ggml.add_bos_token"));
  EXPECT_FALSE(value_of<bool>(metadata, "tokenizer.ggml.add_eos_token"));
  EXPECT_EQ(reopened(folder.path(), metadata)->encode("ab"), (Ids{14, 4}));
  metadata = process("<s>", "</s>");
  EXPECT_TRUE(value_of<bool>(metadata, "tokenizer.ggml.add_eos_token"));
  EXPECT_EQ(reopened(folder.path(), metadata)->encode("ab"), (Ids{14, 4, 15}));
  expect_error(ErrorKind::kUnsupported, {"[15]", "BOS"}, [&] { process("</s>", ""); });
}

TEST_F(ByteLevel, RefusesMoreIdsThanRows) {
  EXPECT_NO_THROW(write(18));
  expect_error(ErrorKind::kCorrupt, {"18 ids", "17 rows"}, [&] { write(17); });
}

TEST_F(ByteLevel, TakesASecondEndOfTextAndTheTemplateOfItsOwnFile) {
  test::write_file(folder / "generation_config.json", R"({"eos_token_id": [17, 15]})");
  test::write_file(folder / "chat_template.jinja", "of the file");
  const Metadata metadata = write();
  EXPECT_EQ(value_of<std::uint64_t>(metadata, "tokenizer.ggml.eos_token_id"), 15u);
  EXPECT_EQ(value_of<std::uint64_t>(metadata, "tokenizer.ggml.eot_token_id"), 17u);
  EXPECT_EQ(value_of<std::string>(metadata, "tokenizer.chat_template"), "of the file");
}

// ---- pieces with scores

struct Pieces : testing::Test {
  void SetUp() override {
    json.normalizer = R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},)"
                      R"( {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})";
    json.pre_tokenizer = "null";
    json.decoder = "null";
    json.vocab = R"({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "▁": 5, "▁a": 6, "ab": 7, "▁ab": 8})";
    json.merges = R"(["▁ a", "a b", "▁a b", "▁ ab"])";
    json.model_fields = R"(, "unk_token": "<unk>", "fuse_unk": true)";
    json.added_tokens =
        R"([{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true},)"
        R"( {"id": 2, "content": "</s>", "special": true}, {"id": 9, "content": "▁▁", "special": false}])";
  }
  Metadata write() {
    test::write_file(folder / "tokenizer.json", json.text());
    test::write_file(folder / "tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>"})");
    return gguf_tokenizer_metadata(folder.path(), 10);
  }
  test::TempDir folder;
  TinyTokenizerJson json;
};

TEST_F(Pieces, HaveScoresInTheOrderOfMerges) {
  const Metadata metadata = write();
  EXPECT_EQ(value_of<std::string>(metadata, "tokenizer.ggml.model"), "llama");
  EXPECT_EQ(value_of<std::vector<double>>(metadata, "tokenizer.ggml.scores"),
            (std::vector<double>{0, 0, 0, -4, -4, -4, 0, -1, -2, 0}));
  EXPECT_EQ(value_of<std::vector<std::int64_t>>(metadata, "tokenizer.ggml.token_type"),
            (std::vector<std::int64_t>{2, 3, 3, 1, 1, 1, 1, 1, 1, 4}));
  EXPECT_EQ(value_of<std::vector<std::string>>(metadata, "tokenizer.ggml.tokens").back(), "  ");
  EXPECT_TRUE(value_of<bool>(metadata, "tokenizer.ggml.add_space_prefix"));
  const auto again = reopened(folder.path(), metadata), original = Tokenizer::open(folder.path());
  for (const char* text : {"ab", "a b", "aab abb", "</s>ab"})
    EXPECT_EQ(again->encode(text, false), original->encode(text, false)) << text;
}

TEST_F(Pieces, KnowTheFormsOfTheSpaceBeforeAText) {
  const std::string replace = R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})";
  const auto prefix = [&](const std::string& normalizer, const std::string& pre_tokenizer) {
    json.normalizer = normalizer;
    json.pre_tokenizer = pre_tokenizer;
    return value_of<bool>(write(), "tokenizer.ggml.add_space_prefix");
  };
  EXPECT_FALSE(prefix(replace, "null"));
  EXPECT_FALSE(
      prefix(replace, R"({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"})"));
  const auto metaspace = [](const char* scheme) {
    return cat(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": ")", scheme,
               R"(", "split": false})");
  };
  EXPECT_TRUE(prefix("null", metaspace("always")));
  EXPECT_TRUE(prefix("null", metaspace("first")));
  EXPECT_FALSE(prefix("null", metaspace("never")));
  json.normalizer =
      R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "_"}, )" + replace + "]}";
  json.pre_tokenizer = "null";
  expect_error(ErrorKind::kUnsupported, {"Prepend"}, [&] { write(); });
}

TEST_F(Pieces, RefuseMergesThatNoScoresGive) {
  json.merges = R"(["▁ a", "a b", "▁ ab"])";  // "▁a b" is possible and missing
  expect_error(ErrorKind::kUnsupported, {"▁ab", "1 merges", "2 splits"}, [&] { write(); });
  json.merges = R"(["▁a b", "▁ a", "a b", "▁ ab"])";
  expect_error(ErrorKind::kUnsupported, {"▁ab", "apart"}, [&] { write(); });
}

// ---- real ones

TEST(GgufTokenizerMetadata, OfSmolLM2GivesTheSameIds) {
  const auto model = test::demo_model();
  if (!model) GTEST_SKIP() << "the SmolLM2 GGUF file is not here (set CRUMB_DEMO_MODEL, or run demo.sh once)";
  const test::TempDir folder;
  const auto original = Tokenizer::open(*model);
  test::write_file(folder / "tokenizer.json", original->to_tokenizer_json());
  test::write_file(folder / "tokenizer_config.json", original->to_tokenizer_config_json());
  const Metadata metadata = gguf_tokenizer_metadata(folder.path(), 49152);
  EXPECT_EQ(value_of<std::string>(metadata, "tokenizer.ggml.pre"), "smollm");
  const auto again = reopened(folder.path(), metadata);
  expect_same_tokenizer(*again, *original);
  // Key by key what the file had that it was made from.
  const io::GgufFile file(*model);
  for (const auto& [key, value] : metadata) {
    const auto found = file.metadata().find(key);
    if (found != file.metadata().end()) EXPECT_TRUE(found->second == value) << key;
  }
  // From the GGUF file itself nothing changes.
  for (const auto& [key, value] : gguf_tokenizer_metadata(*model, 49152))
    EXPECT_TRUE(file.metadata().at(key) == value) << key;
}

TEST(GgufTokenizerMetadata, OfLlama2GivesTheRecordedIds) {
  const auto model = test::shared_path("data/tokenizers/llama2-tokenizer.model");
  const auto vectors = test::shared_path("data/tokenizers/llama.cpp-vocab/ggml-vocab-llama-spm.gguf");
  CRUMB_SKIP_WITHOUT(model, "data/tokenizers/llama2-tokenizer.model");
  CRUMB_SKIP_WITHOUT(vectors, "data/tokenizers/llama.cpp-vocab");
  const test::TempDir folder;
  fs::copy_file(*model, folder / "tokenizer.model");
  const auto original = Tokenizer::open(folder.path());
  const Metadata metadata = gguf_tokenizer_metadata(folder.path(), 32000);
  EXPECT_EQ(value_of<std::string>(metadata, "tokenizer.ggml.model"), "llama");
  EXPECT_TRUE(value_of<bool>(metadata, "tokenizer.ggml.add_bos_token"));
  const auto again = reopened(folder.path(), metadata);
  expect_same_tokenizer(*again, *original);
  for (const auto& [text, ids] : test::read_vectors(*vectors))
    EXPECT_EQ(again->encode(text, false, false), ids) << text;
  const auto types = value_of<std::vector<std::int64_t>>(metadata, "tokenizer.ggml.token_type");
  EXPECT_EQ((std::vector<std::int64_t>{types.begin(), types.begin() + 4}),
            (std::vector<std::int64_t>{2, 3, 3, 6}));
}

TEST(GgufTokenizerMetadata, OfLlama3sRankFileGivesTheRecordedIds) {
  const auto model = test::shared_path("data/tokenizers/llama3-tokenizer.model");
  const auto vectors = test::shared_path("data/tokenizers/llama.cpp-vocab/ggml-vocab-llama-bpe.gguf.inp");
  CRUMB_SKIP_WITHOUT(model, "data/tokenizers/llama3-tokenizer.model");
  CRUMB_SKIP_WITHOUT(vectors, "data/tokenizers/llama.cpp-vocab");
  const test::TempDir folder;
  fs::copy_file(*model, folder / "tokenizer.model");
  const Metadata metadata = gguf_tokenizer_metadata(folder.path(), 128256);
  EXPECT_EQ(value_of<std::string>(metadata, "tokenizer.ggml.pre"), "llama-bpe");
  const auto again = reopened(folder.path(), metadata);
  fs::path stem = *vectors;
  for (const auto& [text, ids] : test::read_vectors(stem.replace_extension()))
    EXPECT_EQ(again->encode(text, false, false), ids) << text;
  EXPECT_EQ(again->encode("Hello world"), (Ids{128000, 9906, 1917}));
}

}  // namespace
}  // namespace crumb::data
