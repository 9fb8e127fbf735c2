// Token ids against recorded ids of the original libraries.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/stream_decoder.h"
#include "data/tokenizer.h"
#include "data/tokenizer_vectors.h"
#include "data/utf8.h"
#include "support/temp_dir.h"

namespace crumb::data {
namespace {

using test::shared_path;

// Every vector: ids of the text, and the text again from the ids (a StreamDecoder gives the same as decode at
// once).
void expect_vectors(const Tokenizer& tokenizer, const std::filesystem::path& vectors) {
  const auto all = test::read_vectors(vectors);
  ASSERT_GT(all.size(), 30u);
  for (const auto& [text, ids] : all) {
    EXPECT_EQ(tokenizer.encode(text, false, false), ids) << "text: " << testing::PrintToString(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const std::int32_t id : ids) {
      const std::string part = stream.push(id);
      EXPECT_EQ(find_invalid_utf8(part), std::string::npos);
      streamed += part;
    }
    EXPECT_EQ(streamed + stream.finish(), text);
  }
}

TEST(GgufTokenizer, GivesTheRecordedIdsOfGpt2) {
  const auto path = shared_path("data/tokenizers/llama.cpp-vocab/ggml-vocab-gpt-2.gguf");
  CRUMB_SKIP_WITHOUT(path, "data/tokenizers/llama.cpp-vocab");
  expect_vectors(*Tokenizer::open(*path), *path);
}

TEST(GgufTokenizer, GivesTheRecordedIdsOfLlama2) {
  const auto path = shared_path("data/tokenizers/llama.cpp-vocab/ggml-vocab-llama-spm.gguf");
  CRUMB_SKIP_WITHOUT(path, "data/tokenizers/llama.cpp-vocab");
  const auto tokenizer = Tokenizer::open(*path);
  expect_vectors(*tokenizer, *path);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->encode("Hello world"), (std::vector<std::int32_t>{1, 15043, 3186}));
  EXPECT_EQ(tokenizer->encode("</s>a", false, true).front(), 2);
  EXPECT_NE(tokenizer->encode("</s>a", false, false).front(), 2);
}

TEST(SentencePieceFile, GivesTheRecordedIdsOfLlama2) {
  const auto model = shared_path("data/tokenizers/llama2-tokenizer.model");
  const auto vectors = shared_path("data/tokenizers/llama.cpp-vocab/ggml-vocab-llama-spm.gguf");
  CRUMB_SKIP_WITHOUT(model, "data/tokenizers/llama2-tokenizer.model");
  CRUMB_SKIP_WITHOUT(vectors, "data/tokenizers/llama.cpp-vocab");
  expect_vectors(*Tokenizer::open(*model), *vectors);
}

TEST(SentencePieceFile, WrittenAsTokenizerJsonGivesTheSameIds) {
  const auto model = shared_path("data/tokenizers/llama2-tokenizer.model");
  const auto vectors = shared_path("data/tokenizers/llama.cpp-vocab/ggml-vocab-llama-spm.gguf");
  CRUMB_SKIP_WITHOUT(model, "data/tokenizers/llama2-tokenizer.model");
  CRUMB_SKIP_WITHOUT(vectors, "data/tokenizers/llama.cpp-vocab");
  const auto original = Tokenizer::open(*model);
  const test::TempDir folder;
  test::write_file(folder / "tokenizer.json", original->to_tokenizer_json());
  const auto copy = Tokenizer::open(folder.path());
  expect_vectors(*copy, *vectors);
  EXPECT_EQ(copy->encode("Hello world"), (std::vector<std::int32_t>{1, 15043, 3186}));
  EXPECT_EQ(copy->bos_id(), 1);
}

TEST(SentencePieceFile, GivesTheSameIdsWordByWordAsForAWholeText) {
  // The tokenizer.json form merges each text as one word; the file's own tokenizer cuts at spaces and
  // remembers words.
  const auto model = shared_path("data/tokenizers/llama2-tokenizer.model");
  const auto text = shared_path("data/text/wikitext2/wiki.test.raw");
  CRUMB_SKIP_WITHOUT(model, "data/tokenizers/llama2-tokenizer.model");
  CRUMB_SKIP_WITHOUT(text, "data/text/wikitext2/wiki.test.raw");
  const auto words = Tokenizer::open(*model);
  const test::TempDir folder;
  test::write_file(folder / "tokenizer.json", words->to_tokenizer_json());
  const auto whole = Tokenizer::open(folder.path());
  const std::string part = test::read_file(*text).substr(0, 100000);
  EXPECT_EQ(words->encode(part), whole->encode(part));
  for (const std::string edge :
       {" ", "  ", "a ", "a  ", " a", "  a  b ", "\u2581 a", "a\u2581 b", "a \u2581b", "", "\n a\n  b"}) {
    EXPECT_EQ(words->encode(edge), whole->encode(edge)) << testing::PrintToString(edge);
  }
}

TEST(RankFile, GivesTheRecordedIdsOfLlama3) {
  const auto ranks = shared_path("data/tokenizers/llama3-tokenizer.model");
  const auto vectors = shared_path("data/tokenizers/llama.cpp-vocab");
  CRUMB_SKIP_WITHOUT(ranks, "data/tokenizers/llama3-tokenizer.model");
  CRUMB_SKIP_WITHOUT(vectors, "data/tokenizers/llama.cpp-vocab");
  const auto tokenizer = Tokenizer::open(*ranks);
  expect_vectors(*tokenizer, *vectors / "ggml-vocab-llama-bpe.gguf");
  EXPECT_EQ(tokenizer->size(), 128256);
  // Ids of the original library on Llama 3's tokenizer.json (the vocabulary is the same).
  const std::pair<std::string, std::vector<std::int32_t>> kRecorded[] = {
      {"Hello world", {128000, 9906, 1917}},
      {"  two  spaces", {128000, 220, 1403, 220, 12908}},
      {"don't DON'T we'LL", {128000, 15357, 956, 45373, 17773, 584, 6, 4178}},
      {"12345 67", {128000, 4513, 1774, 220, 3080}},
      {"a\n\nb\r\n c", {128000, 64, 271, 65, 319, 272}},
      {"\u180E\u00A0x", {128000, 157, 254, 236, 4194, 87}},
      {"naïve café 東京 😶‍🌫️",
       {128000, 3458, 38672, 588, 53050, 119109, 27623, 114, 102470, 9468, 234, 104, 31643}},
  };
  for (const auto& [text, ids] : kRecorded) EXPECT_EQ(tokenizer->encode(text), ids) << text;
  EXPECT_EQ(tokenizer->encode("<|eot_id|>", false), (std::vector<std::int32_t>{128009}));
}

TEST(VocabAndMerges, GiveTheRecordedIdsOfGpt2) {
  const auto source = shared_path("data/tokenizers");
  CRUMB_SKIP_WITHOUT(source, "data/tokenizers");
  const test::TempDir folder;
  std::filesystem::copy_file(*source / "gpt2-vocab.json", folder / "vocab.json");
  std::filesystem::copy_file(*source / "gpt2-merges.txt", folder / "merges.txt");
  const auto tokenizer = Tokenizer::open(folder.path());
  expect_vectors(*tokenizer, *source / "llama.cpp-vocab/ggml-vocab-gpt-2.gguf");
  EXPECT_EQ(tokenizer->bos_id(), 50256);
}

TEST(GgufTokenizer, WrittenAsTokenizerJsonGivesTheSameIds) {
  const auto path = shared_path("data/tokenizers/llama.cpp-vocab/ggml-vocab-gpt-2.gguf");
  CRUMB_SKIP_WITHOUT(path, "data/tokenizers/llama.cpp-vocab");
  const test::TempDir folder;
  const auto original = Tokenizer::open(*path);
  test::write_file(folder / "tokenizer.json", original->to_tokenizer_json());
  test::write_file(folder / "tokenizer_config.json", original->to_tokenizer_config_json());
  const auto copy = Tokenizer::open(folder.path());
  expect_vectors(*copy, *path);
  EXPECT_EQ(copy->bos_id(), original->bos_id());
  EXPECT_EQ(copy->eos_ids(), original->eos_ids());
}

TEST(TokenizerVectors, NoticeAnotherPreTokenizer) {
  // A negative control: the same vocabulary with digits cut one by one must differ somewhere.
  const auto path = shared_path("data/tokenizers/llama.cpp-vocab/ggml-vocab-gpt-2.gguf");
  CRUMB_SKIP_WITHOUT(path, "data/tokenizers/llama.cpp-vocab");
  auto json = nlohmann::json::parse(Tokenizer::open(*path)->to_tokenizer_json());
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, json["pre_tokenizer"]}}};
  const test::TempDir folder;
  test::write_file(folder / "tokenizer.json", json.dump());
  const auto other = Tokenizer::open(folder.path());
  int different = 0;
  for (const auto& [text, ids] : test::read_vectors(*path))
    different += other->encode(text, false, false) != ids ? 1 : 0;
  EXPECT_GT(different, 0);
}

TEST(TokenizerJson, GivesBackTextOfTheStoryModelsTokenizer) {
  const auto folder = shared_path("data/models/tinystories-656K");
  CRUMB_SKIP_WITHOUT(folder, "data/models/tinystories-656K");
  const auto tokenizer = Tokenizer::open(*folder);
  EXPECT_EQ(tokenizer->size(), 2048);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_ids(), (std::vector<std::int32_t>{2}));
  const auto ids = tokenizer->encode("Once upon a time, there was a little girl.");
  EXPECT_EQ(ids.front(), 1);
  EXPECT_NE(tokenizer->decode(ids).find("Once upon a time, there was a little girl."), std::string::npos);
}

}  // namespace
}  // namespace crumb::data
