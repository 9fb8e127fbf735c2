#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/numpy_random.h"
#include "data/stream_decoder.h"
#include "data/tokenizer.h"
#include "data/tokenizer_vectors.h"
#include "io/gguf.h"
#include "support/temp_dir.h"

namespace crumb::data {
namespace {

using Ids = std::vector<std::int32_t>;

std::unique_ptr<Tokenizer> open_text(const std::string& text) {
  const test::TempDir folder;
  test::write_file(folder / "tokenizer.json", text);
  return Tokenizer::open(folder / "tokenizer.json");
}

std::unique_ptr<Tokenizer> open_tiny(const test::TinyTokenizerJson& json) {
  return open_text(json.text());
}

template <class Call>
std::string error_of(ErrorKind kind, const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(TokenizerJson, MergesTheLowestRankFirst) {
  const auto tokenizer = open_tiny({});
  EXPECT_EQ(tokenizer->encode("abc"), (Ids{5}));
  EXPECT_EQ(tokenizer->encode("abab"), (Ids{4, 4}));
  EXPECT_EQ(tokenizer->encode("ab abc"), (Ids{4, 3, 5}));  // "a b" and "ab c" come before "Ġ a"
}

TEST(TokenizerJson, TakesWholeWordsWhenMergesAreIgnored) {
  test::TinyTokenizerJson json;
  json.merges = "[]";
  EXPECT_EQ(open_tiny(json)->encode("abc"), (Ids{0, 1, 2}));
  json.model_fields = R"(, "ignore_merges": true)";
  EXPECT_EQ(open_tiny(json)->encode("abc"), (Ids{5}));
}

TEST(TokenizerJson, CutsDigitsOneByOneOnlyWhenTheFileSaysSo) {
  test::TinyTokenizerJson json;
  EXPECT_EQ(open_tiny(json)->encode("a12"), (Ids{0, 9}));
  const std::string bytes = json.pre_tokenizer;
  json.pre_tokenizer =
      R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, )" + bytes +
      "]}";
  EXPECT_EQ(open_tiny(json)->encode("a12"), (Ids{0, 7, 8}));
  json.pre_tokenizer =
      R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Isolated", )"
      R"("invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
  EXPECT_EQ(open_tiny(json)->encode("a12"), (Ids{0, 7, 8}));
}

TEST(TokenizerJson, SplitsByEveryBehavior) {
  const auto ids = [](const std::string& behavior, bool invert) {
    test::TinyTokenizerJson json;
    json.vocab = R"({"a": 0, "-": 1, "a-": 2, "-a": 3, "--": 4, "b": 5})";
    json.merges = R"(["a -", "- a", "- -"])";
    json.pre_tokenizer = R"({"type": "Split", "pattern": {"String": "-"}, "behavior": ")" + behavior +
                         R"(", "invert": )" + (invert ? "true" : "false") + "}";
    json.decoder = "null";
    return open_tiny(json)->encode("a--a");
  };
  EXPECT_EQ(ids("Isolated", false), (Ids{0, 1, 1, 0}));
  EXPECT_EQ(ids("Removed", false), (Ids{0, 0}));
  EXPECT_EQ(ids("Removed", true), (Ids{1, 1}));
  EXPECT_EQ(ids("MergedWithPrevious", false), (Ids{2, 1, 0}));
  EXPECT_EQ(ids("MergedWithNext", false), (Ids{0, 1, 3}));
  EXPECT_EQ(ids("Contiguous", false), (Ids{0, 4, 0}));
}

TEST(TokenizerJson, NormalizesToNfcWhenTheFileSaysSo) {
  test::TinyTokenizerJson json;
  const std::string decomposed = "ae\u0301";  // a, e, combining acute
  json.vocab = R"({"a": 0, "e": 1, "Ã": 2, "©": 3, "Ã©": 4, "Ì": 5, "ģ": 6})";
  json.merges = R"(["Ã ©"])";
  EXPECT_EQ(open_tiny(json)->encode(decomposed), (Ids{0, 1, 5, 6}));
  json.normalizer = R"({"type": "Sequence", "normalizers": [{"type": "NFC"}]})";
  EXPECT_EQ(open_tiny(json)->encode(decomposed), (Ids{0, 4}));
}

TEST(TokenizerJson, CutsAddedTokensOutFirst) {
  test::TinyTokenizerJson json;
  json.added_tokens = R"([{"id": 20, "content": "<s>", "special": true, "normalized": false},
                          {"id": 21, "content": "<s>x", "special": false, "normalized": false},
                          {"id": 22, "content": "<l>", "special": true, "normalized": false, "lstrip": true},
                          {"id": 23, "content": "<r>", "special": true, "normalized": false, "rstrip": true},
                          {"id": 24, "content": "b", "special": false, "normalized": false, "single_word": true}])";
  json.vocab = R"({"a": 0, "c": 2, "Ġ": 3, "x": 13, "<": 14, "s": 15, ">": 16, "b": 24})";
  json.merges = "[]";
  const auto tokenizer = open_tiny(json);
  EXPECT_EQ(tokenizer->encode("a<s>a"), (Ids{0, 20, 0}));
  EXPECT_EQ(tokenizer->encode("<s>xa"), (Ids{21, 0}));  // the longest that starts there
  EXPECT_EQ(tokenizer->encode("a  <l> a"), (Ids{0, 22, 3, 0}));
  EXPECT_EQ(tokenizer->encode("a <r>  a"), (Ids{0, 3, 23, 0}));
  EXPECT_EQ(tokenizer->encode("<s>", false, false), (Ids{14, 15, 16}));
  EXPECT_EQ(tokenizer->size(), 25);
  EXPECT_EQ(tokenizer->token_id("<s>"), 20);
  EXPECT_EQ(tokenizer->decode(Ids{0, 20, 0}), "aa");
  EXPECT_EQ(tokenizer->decode(Ids{0, 20, 0}, false), "a<s>a");
}

TEST(TokenizerJson, AddsWhatTheTemplateSays) {
  test::TinyTokenizerJson json;
  json.added_tokens =
      R"([{"id": 20, "content": "<s>", "special": true}, {"id": 21, "content": "</s>", "special": true}])";
  json.post_processor =
      R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [20], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [21], "tokens": ["</s>"]}}}]})";
  const auto tokenizer = open_tiny(json);
  EXPECT_EQ(tokenizer->encode("a"), (Ids{20, 0, 21}));
  EXPECT_EQ(tokenizer->encode("a", false), (Ids{0}));
  EXPECT_EQ(tokenizer->encode(""), (Ids{20, 21}));
  EXPECT_EQ(tokenizer->bos_id(), 20);
}

TEST(TokenizerJson, FallsBackToBytesAndDecodesThem) {
  test::TinyTokenizerJson json;
  json.pre_tokenizer = "null";
  json.normalizer = R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})";
  json.decoder =
      R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                     {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";
  json.vocab = R"({"<unk>": 0, "<0xC3>": 1, "<0xA9>": 2, "▁": 3, "a": 4, "▁a": 5})";
  json.merges = R"(["▁ a"])";
  json.model_fields = R"(, "byte_fallback": true, "fuse_unk": true, "unk_token": "<unk>")";
  const auto tokenizer = open_tiny(json);
  EXPECT_EQ(tokenizer->encode("a aé"), (Ids{5, 5, 1, 2}));
  EXPECT_EQ(tokenizer->decode(Ids{5, 5, 1, 2}), "a aé");
  EXPECT_EQ(tokenizer->encode("zz a"), (Ids{3, 0, 5}));  // no bytes for z: one fused unknown
  EXPECT_EQ(tokenizer->decode(Ids{5, 1}), "a\uFFFD");
  EXPECT_EQ(tokenizer->decode_bytes(Ids{5, 1}), "a\xC3");
}

TEST(StreamDecoder, HoldsBackHalfACharacter) {
  const auto tokenizer = open_tiny({});
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push(0), "a");
  EXPECT_EQ(stream.push(10), "");
  EXPECT_EQ(stream.push(11), "é");
  EXPECT_EQ(stream.push(10), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(StreamDecoder, AgreesWithDecodeOnALongText) {
  const auto tokenizer = open_tiny({});
  Ids ids;
  for (int i = 0; i < 500; ++i) ids.push_back((i * 7) % 14);
  StreamDecoder stream(*tokenizer);
  std::string text;
  for (const std::int32_t id : ids) text += stream.push(id);
  EXPECT_EQ(text + stream.finish(), tokenizer->decode(ids));
}

TEST(TokenizerJson, ReadsSpecialIdsFromTheFilesBesideIt) {
  const test::TempDir folder;
  test::TinyTokenizerJson json;
  json.added_tokens =
      R"([{"id": 20, "content": "<s>", "special": true}, {"id": 21, "content": "</s>", "special": true}])";
  test::write_file(folder / "tokenizer.json", json.text());
  test::write_file(folder / "tokenizer_config.json",
                   R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  test::write_file(folder / "generation_config.json", R"({"eos_token_id": [5, 6]})");
  test::write_file(folder / "config.json", R"({"eos_token_id": 9, "bos_token_id": 8})");
  const auto tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer->bos_id(), 20);
  EXPECT_EQ(tokenizer->eos_ids(), (Ids{5, 6, 21}));
  EXPECT_EQ(tokenizer->encode("a"), (Ids{0}));  // the post-processor adds no BOS, so none is added
}

TEST(TokenizerJson, NamesAStepThatItDoesNotKnow) {
  test::TinyTokenizerJson json;
  json.normalizer = R"({"type": "BertNormalizer"})";
  EXPECT_NE(error_of(ErrorKind::kUnsupported, [&] { open_tiny(json); }).find("BertNormalizer"),
            std::string::npos);
  json = {};
  json.pre_tokenizer = R"({"type": "UnicodeScripts"})";
  EXPECT_NE(error_of(ErrorKind::kUnsupported, [&] { open_tiny(json); }).find("UnicodeScripts"),
            std::string::npos);
  json = {};
  json.post_processor = R"({"type": "RobertaProcessing"})";
  EXPECT_NE(error_of(ErrorKind::kUnsupported, [&] { open_tiny(json); }).find("RobertaProcessing"),
            std::string::npos);
  json = {};
  json.decoder = R"({"type": "WordPiece"})";
  EXPECT_NE(error_of(ErrorKind::kUnsupported, [&] { open_tiny(json); }).find("WordPiece"), std::string::npos);
  std::string text = test::TinyTokenizerJson().text();
  text.replace(text.find("BPE"), 3, "Unigram");
  EXPECT_NE(error_of(ErrorKind::kUnsupported, [&] { open_text(text); }).find("Unigram"), std::string::npos);
}

TEST(TokenizerJson, RejectsFilesThatContradictThemselves) {
  test::TinyTokenizerJson json;
  json.merges = R"(["a q"])";
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { open_tiny(json); }).find("'q'"), std::string::npos);
  json = {};
  json.vocab = R"({"a": 0, "b": 0})";
  json.merges = "[]";
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { open_tiny(json); }).find("id 0"), std::string::npos);
  json = {};
  json.vocab = R"({"a": -1})";
  error_of(ErrorKind::kCorrupt, [&] { open_tiny(json); });
  json = {};
  json.pre_tokenizer = R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})";
  error_of(ErrorKind::kCorrupt, [&] { open_tiny(json); });
  json = {};
  json.added_tokens = R"([{"id": 3, "content": "a"}])";
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { open_tiny(json); }).find("'a'"), std::string::npos);
  json = {};
  json.added_tokens = "[[1]]";
  error_of(ErrorKind::kCorrupt, [&] { open_tiny(json); });
  for (const std::string text :
       {"", "[]", "{}", R"({"model": 3})", R"({"model": {"vocab": {}}})", "{\"model\""}) {
    error_of(ErrorKind::kCorrupt, [&] { open_text(text); });
  }
}

TEST(Tokenizer, RefusesInvalidTextAndIds) {
  const auto tokenizer = open_tiny({});
  EXPECT_NE(error_of(ErrorKind::kInvalidArgument, [&] { tokenizer->encode("ab\xFFz"); }).find("byte 2"),
            std::string::npos);
  EXPECT_NE(error_of(ErrorKind::kInvalidArgument, [&] { tokenizer->decode(Ids{99}); }).find("99"),
            std::string::npos);
  error_of(ErrorKind::kInvalidArgument, [&] { tokenizer->decode(Ids{-1}); });
}

TEST(Tokenizer, SaysWhatAFolderLacks) {
  const test::TempDir folder;
  EXPECT_NE(error_of(ErrorKind::kNotFound, [&] { Tokenizer::open(folder.path()); }).find("tokenizer.json"),
            std::string::npos);
  error_of(ErrorKind::kNotFound, [&] { Tokenizer::open(folder / "nowhere"); });
  test::write_file(folder / "weights.bin", "abc");
  error_of(ErrorKind::kUnsupported, [&] { Tokenizer::open(folder / "weights.bin"); });
  test::write_file(folder / "tokenizer.model", std::string("\x0a\x05\x0a\x10zz", 6));
  error_of(ErrorKind::kCorrupt, [&] { Tokenizer::open(folder.path()); });
}

TEST(Tokenizer, RefusesEveryPrefixOfASentencePieceModel) {
  const auto model = test::shared_path("data/tokenizers/llama2-tokenizer.model");
  CRUMB_SKIP_WITHOUT(model, "data/tokenizers/llama2-tokenizer.model");
  const std::string whole = test::read_file(*model);
  const test::TempDir folder;
  for (std::size_t size = 1; size < whole.size(); size = size * 3 + 7) {
    test::write_file(folder / "tokenizer.model", whole.substr(0, size));
    error_of(ErrorKind::kCorrupt, [&] { Tokenizer::open(folder.path()); });
  }
}

using Metadata = std::vector<std::pair<std::string, io::GgufValue>>;

Metadata tiny_gguf() {
  return {{"general.architecture", std::string("llama")},
          {"tokenizer.ggml.model", std::string("gpt2")},
          {"tokenizer.ggml.pre", std::string("smollm")},
          {"tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "a", "b", "ab", "1"}},
          {"tokenizer.ggml.token_type", std::vector<std::int64_t>{3, 1, 1, 1, 1}},
          {"tokenizer.ggml.merges", std::vector<std::string>{"a b"}},
          {"tokenizer.ggml.bos_token_id", std::uint64_t{0}},
          {"tokenizer.ggml.add_bos_token", true},
          {"tokenizer.chat_template", std::string("{{ hello }}")}};
}

void set(Metadata& metadata, const std::string& key, io::GgufValue value) {
  for (auto& entry : metadata) {
    if (entry.first == key) entry.second = std::move(value);
  }
}

std::unique_ptr<Tokenizer> open_gguf(const Metadata& metadata) {
  const test::TempDir folder;
  io::write_gguf(folder / "model.gguf", metadata, {});
  return Tokenizer::open(folder / "model.gguf");
}

TEST(GgufTokenizer, ReadsByteLevelMetadata) {
  const auto tokenizer = open_gguf(tiny_gguf());
  EXPECT_EQ(tokenizer->encode("ab<s>11"), (Ids{0, 3, 0, 4, 4}));
  const auto config = nlohmann::json::parse(tokenizer->to_tokenizer_config_json());
  EXPECT_EQ(config.at("chat_template"), "{{ hello }}");
  EXPECT_EQ(config.at("bos_token"), "<s>");
}

TEST(GgufTokenizer, RefusesWhatItCannotBeSureOf) {
  Metadata metadata = tiny_gguf();
  set(metadata, "tokenizer.ggml.pre", std::string("no-such-rule"));
  EXPECT_NE(error_of(ErrorKind::kUnsupported, [&] { open_gguf(metadata); }).find("no-such-rule"),
            std::string::npos);
  metadata = tiny_gguf();
  set(metadata, "tokenizer.ggml.model", std::string("bert"));
  EXPECT_NE(error_of(ErrorKind::kUnsupported, [&] { open_gguf(metadata); }).find("bert"), std::string::npos);
  metadata = tiny_gguf();
  set(metadata, "tokenizer.ggml.token_type", std::vector<std::int64_t>{3, 1});
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { open_gguf(metadata); }).find("token_type"),
            std::string::npos);
  metadata = tiny_gguf();
  set(metadata, "tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "a", "b", "ab", "a"});
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { open_gguf(metadata); }).find("twice"), std::string::npos);
  metadata = tiny_gguf();
  set(metadata, "tokenizer.ggml.bos_token_id", std::uint64_t{77});
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { open_gguf(metadata); }).find("77"), std::string::npos);
  error_of(ErrorKind::kNotFound, [&] { open_gguf({{"general.architecture", std::string("llama")}}); });
}

TEST(NumpyPermutation, IsNumpys) {
  // numpy.random.default_rng(0).permutation(10), recorded from NumPy.
  EXPECT_EQ(numpy_permutation(0, 10), (std::vector<std::int64_t>{4, 6, 2, 7, 3, 5, 9, 0, 8, 1}));
  EXPECT_TRUE(numpy_permutation(5, 0).empty());
}

}  // namespace
}  // namespace crumb::data
