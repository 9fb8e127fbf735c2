// The token files that the authors' code was run on, made again from text: SmolLM2's tokenizer out of its
// GGUF file, the window selection of the paper's code, the packing of E2E-QP and the wikitext form.
#include <gtest/gtest.h>

#include "data/compressed.h"
#include "data/tokenizer_vectors.h"
#include "data/windows.h"
#include "io/safetensors.h"
#include "support/temp_dir.h"

namespace crumb::data {
namespace {

class EfficientQatTokenFiles : public testing::Test {
 protected:
  void SetUp() override {
    const auto model = test::demo_model();
    const auto golden = test::golden_dir("efficientqat");
    const auto text = test::shared_path("data/text");
    if (!model)
      GTEST_SKIP() << "the SmolLM2 GGUF file is not here (set CRUMB_DEMO_MODEL, or run demo.sh once)";
    CRUMB_SKIP_WITHOUT(golden, "golden/efficientqat");
    CRUMB_SKIP_WITHOUT(text, "data/text");
    golden_ = *golden;
    text_ = *text;
    tokenizer_ = Tokenizer::open(*model);
  }

  std::filesystem::path golden_, text_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(EfficientQatTokenFiles, CalibrationWindowsAreTheOnesOfThePapersSelection) {
  const std::string file = (golden_ / "smollm2_calib_tokens.safetensors").string();
  const Corpus corpus = read_corpus(text_ / "calib/c4_sample.jsonl");
  ASSERT_EQ(corpus.documents.size(), 1000u);
  const WindowSplit split = select_windows(corpus, *tokenizer_, Selection::kRandomDocuments, 64, 4, 1024, 2);
  EXPECT_EQ(split.train.ids, read_token_file(file + ":train", 0, 49152).ids);
  EXPECT_EQ(split.validation.ids, read_token_file(file + ":val", 0, 49152).ids);
  const WindowSplit other = select_windows(corpus, *tokenizer_, Selection::kRandomDocuments, 64, 4, 1024, 3);
  EXPECT_NE(other.train.ids, split.train.ids);
}

TEST_F(EfficientQatTokenFiles, EndToEndChunksAreInNumpysOrder) {
  const std::string file = (golden_ / "smollm2_calib_tokens.safetensors").string();
  const Corpus corpus = read_corpus(text_ / "calib/c4_sample.jsonl");
  const WindowSplit split = select_windows(corpus, *tokenizer_, Selection::kShuffledChunks, 64, 0, 1024, 0);
  EXPECT_EQ(split.train.ids, read_token_file(file + ":e2e", 0, 49152).ids);
}

TEST_F(EfficientQatTokenFiles, EvaluationWindowsHaveTheWikitextForm) {
  const std::string file = (golden_ / "smollm2_eval_tokens.safetensors").string();
  const std::filesystem::path raw = text_ / "wikitext2/wiki.test.raw";
  const Corpus corpus = read_corpus(raw);
  EXPECT_EQ(tokenizer_->encode(corpus.documents.at(0)).size(), 304978u);
  const TokenWindows windows = evaluation_windows(corpus, *tokenizer_, 1024, 16);
  EXPECT_EQ(windows.ids, read_token_file(file + ":wikitext2_test", 0, 49152).ids);
  EXPECT_EQ(evaluation_windows(corpus, *tokenizer_, 1024, 0).rows, 304978 / 1024);

  // The same bytes under another name are read as they are.
  const test::TempDir folder;
  std::filesystem::copy_file(raw, folder / "as-it-is.txt");
  const Corpus plain = read_corpus(folder / "as-it-is.txt");
  EXPECT_EQ(evaluation_windows(plain, *tokenizer_, 1024, 16).ids,
            read_token_file(file + ":wikitext2_test_rawfile", 0, 49152).ids);
}

TEST_F(EfficientQatTokenFiles, AreTheSameThroughTheWrittenTokenizerJson) {
  const test::TempDir folder;
  test::write_file(folder / "tokenizer.json", tokenizer_->to_tokenizer_json());
  test::write_file(folder / "tokenizer_config.json", tokenizer_->to_tokenizer_config_json());
  const auto copy = Tokenizer::open(folder.path());
  const Corpus corpus = read_corpus(text_ / "wikitext2/wiki.test.raw");
  EXPECT_EQ(copy->encode(corpus.documents.at(0)), tokenizer_->encode(corpus.documents.at(0)));
  EXPECT_EQ(copy->eos_ids(), (std::vector<std::int32_t>{2}));
  EXPECT_EQ(copy->bos_id(), 1);
  EXPECT_EQ(copy->encode("<|im_start|>user\nHi<|im_end|>").front(), 1);
}

TEST_F(EfficientQatTokenFiles, GiveTheirTextBack) {
  const std::string text = test::read_file(text_ / "wikitext2/wiki.test.raw").substr(0, 200000);
  EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text)), text);
}

TEST(Llama2Wikitext, HasThePublishedNumberOfTokens) {
  const auto model = test::shared_path("data/tokenizers/llama2-tokenizer.model");
  const auto text = test::shared_path("data/text/wikitext2/wiki.test.raw");
  CRUMB_SKIP_WITHOUT(model, "data/tokenizers/llama2-tokenizer.model");
  CRUMB_SKIP_WITHOUT(text, "data/text/wikitext2/wiki.test.raw");
  const auto tokenizer = Tokenizer::open(*model);
  const Corpus corpus = read_corpus(*text);
  EXPECT_EQ(tokenizer->encode(corpus.documents.at(0)).size(), 341469u);
  EXPECT_EQ(evaluation_windows(corpus, *tokenizer, 2048, 0).rows, 166);
}

}  // namespace
}  // namespace crumb::data
