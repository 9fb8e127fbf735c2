#include "data/windows.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <numeric>
#include <set>

#include "base/error.h"
#include "data/compressed.h"
#include "data/tokenizer_vectors.h"
#include "io/safetensors.h"
#include "support/temp_dir.h"

namespace crumb::data {
namespace {

// One token for each byte: id = byte.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text, bool, bool) const override {
    std::vector<std::int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<std::uint8_t>(c));
    return ids;
  }
  std::string decode(std::span<const std::int32_t> ids, bool) const override {
    return std::string(ids.begin(), ids.end());
  }
  std::string decode_bytes(std::span<const std::int32_t> ids, bool skip) const override {
    return decode(ids, skip);
  }
  std::int64_t size() const override { return 256; }
  std::optional<std::int32_t> token_id(std::string_view) const override { return std::nullopt; }
  std::optional<std::int32_t> bos_id() const override { return std::nullopt; }
  std::vector<std::int32_t> eos_ids() const override { return {}; }
  std::string to_tokenizer_json() const override { return "{}"; }
  std::string to_tokenizer_config_json() const override { return "{}"; }
};

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

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

const std::string kLines = "{\"text\": \"first\"}\n\n{\"text\": \"second\\nline\", \"meta\": 1}";

TEST(ReadCorpus, ReadsTextAndJsonLinesAlsoCompressed) {
  const test::TempDir folder;
  test::write_file(folder / "a.jsonl", kLines);
  test::write_file(folder / "b.jsonl.gz",
                   gzip(kLines.substr(0, 20)) + gzip(kLines.substr(20)));  // two members
  test::write_file(folder / "c.jsonl.zst", zstd(kLines));
  test::write_file(folder / "d.txt.gz", gzip("plain\ntext"));
  for (const char* name : {"a.jsonl", "b.jsonl.gz", "c.jsonl.zst"}) {
    EXPECT_EQ(read_corpus(folder / name).documents, (std::vector<std::string>{"first", "second\nline"}))
        << name;
  }
  EXPECT_EQ(read_corpus(folder / "d.txt.gz").documents, (std::vector<std::string>{"plain\ntext"}));
}

TEST(ReadCorpus, ReadsFilesLargerThanOneChunk) {
  const test::TempDir folder;
  std::string text;
  for (int i = 0; i < 400000; ++i) text += std::to_string(i) + "\n";
  test::write_file(folder / "a.txt", text);
  test::write_file(folder / "a.txt.gz", gzip(text));
  test::write_file(folder / "a.txt.zst", zstd(text));
  for (const char* name : {"a.txt", "a.txt.gz", "a.txt.zst"})
    EXPECT_EQ(read_corpus(folder / name).documents.at(0), text) << name;
}

TEST(ReadCorpus, NamesTheLineOrByteThatIsWrong) {
  const test::TempDir folder;
  test::write_file(folder / "a.jsonl", "{\"text\": \"x\"}\n{\"content\": \"y\"}\n");
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "a.jsonl"); }).find("line 2"),
            std::string::npos);
  test::write_file(folder / "b.jsonl", "{\"text\": \"x\"}\n{\"text\": \"y");
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "b.jsonl"); }).find("line 2"),
            std::string::npos);
  test::write_file(folder / "c.txt", "abc\xC3(");
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "c.txt"); }).find("byte 3"),
            std::string::npos);
  test::write_file(folder / "d.txt", "");
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "d.txt"); }).find("no text"),
            std::string::npos);
  test::write_file(folder / "e.jsonl", "\n\n");
  error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "e.jsonl"); });
  error_of(ErrorKind::kNotFound, [&] { read_corpus(folder / "nowhere.txt"); });
  error_of(ErrorKind::kInvalidArgument, [&] { read_corpus(folder.path()); });
}

TEST(ReadCorpus, RefusesDamagedCompression) {
  const test::TempDir folder;
  const std::string text(5000, 'x');
  test::write_file(folder / "short.txt.gz", gzip(text).substr(0, 30));
  error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "short.txt.gz"); });
  std::string changed = gzip(text);
  changed[changed.size() - 6] ^= 1;  // its checksum
  test::write_file(folder / "sum.txt.gz", changed);
  error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "sum.txt.gz"); });
  test::write_file(folder / "none.txt.gz", "plain");
  error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "none.txt.gz"); });
  const std::string packed = zstd(text);
  test::write_file(folder / "short.txt.zst", packed.substr(0, packed.size() - 3));
  error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "short.txt.zst"); });
  test::write_file(folder / "none.txt.zst", "plain");
  error_of(ErrorKind::kCorrupt, [&] { read_corpus(folder / "none.txt.zst"); });
}

TEST(JoinWikitext, KeepsLinesAndEmptiesBlankOnes) {
  EXPECT_EQ(join_wikitext(" = A = \n \n text\n"), " = A = \n\n\n\n\n text\n");
  EXPECT_EQ(join_wikitext(""), "");
}

Corpus letters(int documents, int each) {
  Corpus corpus;
  corpus.source = "letters";
  for (int i = 0; i < documents; ++i)
    corpus.documents.push_back(std::string(static_cast<std::size_t>(each), static_cast<char>('A' + i)));
  return corpus;
}

TEST(SelectWindows, DrawsValidationFromTheLastTenthOfTheDocuments) {
  const Corpus corpus = letters(20, 50);
  const WindowSplit split =
      select_windows(corpus, ByteTokenizer(), Selection::kRandomDocuments, 100, 50, 10, 2);
  EXPECT_EQ(split.train.rows, 100);
  EXPECT_EQ(split.validation.rows, 50);
  const std::set<std::int32_t> train(split.train.ids.begin(), split.train.ids.end());
  const std::set<std::int32_t> validation(split.validation.ids.begin(), split.validation.ids.end());
  EXPECT_LE(*train.rbegin(), 'A' + 17);
  EXPECT_GE(*validation.begin(), 'A' + 18);
}

// id = 1000 * (letter of the document) + position, so that a window tells where it was cut.
class PositionTokenizer final : public ByteTokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text, bool, bool) const override {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < text.size(); ++i)
      ids.push_back(1000 * (text[i] - 'A') + static_cast<std::int32_t>(i));
    return ids;
  }
};

TEST(SelectWindows, DrawsAsPythonDoes) {
  // Recorded from CPython 3.11: r = random.Random(2); three times r.randint(0, 8), r.randint(0, 39), then
  // r.randint(9, 9), r.randint(0, 39).
  const Corpus corpus = letters(10, 50);
  const WindowSplit split =
      select_windows(corpus, PositionTokenizer(), Selection::kRandomDocuments, 3, 1, 10, 2);
  EXPECT_EQ(split.train.row(0)[0], 5);
  EXPECT_EQ(split.train.row(1)[0], 1023);
  EXPECT_EQ(split.train.row(2)[0], 2019);
  EXPECT_EQ(split.train.row(2)[9], 2028);
  EXPECT_EQ(split.validation.row(0)[0], 9038);
  EXPECT_NE(select_windows(corpus, PositionTokenizer(), Selection::kRandomDocuments, 3, 1, 10, 1).train.ids,
            split.train.ids);
}

TEST(SelectWindows, GivesUpWhenNoDocumentIsLongEnough) {
  const Corpus corpus = letters(20, 10);
  const std::string message = error_of(ErrorKind::kInvalidArgument, [&] {
    select_windows(corpus, ByteTokenizer(), Selection::kRandomDocuments, 1, 0, 10, 2);
  });
  EXPECT_NE(message.find("11"), std::string::npos);  // what is needed
  EXPECT_NE(message.find("10"), std::string::npos);  // what there is
}

TEST(SelectWindows, TreatsOneDocumentAsAStream) {
  Corpus corpus;
  corpus.source = "stream";
  corpus.documents = {std::string(900, 'a') + std::string(100, 'b')};
  const WindowSplit split =
      select_windows(corpus, ByteTokenizer(), Selection::kRandomDocuments, 20, 5, 50, 2);
  EXPECT_EQ(std::set<std::int32_t>(split.train.ids.begin(), split.train.ids.end()),
            (std::set<std::int32_t>{'a'}));
  EXPECT_EQ(std::set<std::int32_t>(split.validation.ids.begin(), split.validation.ids.end()),
            (std::set<std::int32_t>{'b'}));
  error_of(ErrorKind::kInvalidArgument,
           [&] { select_windows(corpus, ByteTokenizer(), Selection::kRandomDocuments, 1, 1, 100, 2); });
}

TEST(SelectWindows, CutsInOrderWhenSequential) {
  const Corpus corpus = letters(3, 4);
  const WindowSplit split = select_windows(corpus, ByteTokenizer(), Selection::kSequential, 2, 1, 3, 2);
  EXPECT_EQ(split.train.ids, (std::vector<std::int32_t>{'A', 'A', 'A', 'A', 'B', 'B'}));
  EXPECT_EQ(split.validation.ids, (std::vector<std::int32_t>{'B', 'B', 'C'}));
  const std::string message = error_of(ErrorKind::kInvalidArgument, [&] {
    select_windows(corpus, ByteTokenizer(), Selection::kSequential, 4, 1, 3, 2);
  });
  EXPECT_NE(message.find("has 4 windows"), std::string::npos);
  EXPECT_NE(message.find("want 5"), std::string::npos);
}

TEST(SelectWindows, ShufflesWholeChunks) {
  const Corpus corpus = letters(10, 6);
  const WindowSplit split = select_windows(corpus, ByteTokenizer(), Selection::kShuffledChunks, 8, 2, 6, 0);
  std::vector<std::int32_t> order;
  for (std::int64_t i = 0; i < 8; ++i) order.push_back(split.train.row(i)[0] - 'A');
  for (std::int64_t i = 0; i < 2; ++i) order.push_back(split.validation.row(i)[0] - 'A');
  std::vector<std::int32_t> sorted = order, all(10);
  std::sort(sorted.begin(), sorted.end());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(sorted, all);
  EXPECT_NE(order, all);
  error_of(ErrorKind::kInvalidArgument,
           [&] { select_windows(corpus, ByteTokenizer(), Selection::kShuffledChunks, 10, 1, 6, 0); });
}

TEST(EvaluationWindows, DropTheTailAndKeepTheOrder) {
  Corpus corpus;
  corpus.source = "text";
  corpus.documents = {"abcdefgh"};
  EXPECT_EQ(evaluation_windows(corpus, ByteTokenizer(), 3, 0).ids,
            (std::vector<std::int32_t>{'a', 'b', 'c', 'd', 'e', 'f'}));
  EXPECT_EQ(evaluation_windows(corpus, ByteTokenizer(), 3, 1).rows, 1);
  corpus.documents = {"ab", "cd"};
  EXPECT_EQ(evaluation_windows(corpus, ByteTokenizer(), 6, 0).ids,
            (std::vector<std::int32_t>{'a', 'b', '\n', '\n', 'c', 'd'}));
  const std::string message =
      error_of(ErrorKind::kInvalidArgument, [&] { evaluation_windows(corpus, ByteTokenizer(), 7, 0); });
  EXPECT_NE(message.find("has 6 tokens"), std::string::npos);
  error_of(ErrorKind::kInvalidArgument, [&] { evaluation_windows(corpus, ByteTokenizer(), 1, 0); });
  corpus.evaluate_by_crops = true;
  corpus.documents = {"abcdefgh", "xyz"};
  const TokenWindows crops = evaluation_windows(corpus, ByteTokenizer(), 4, 0);
  EXPECT_EQ(crops.rows, 256);
  EXPECT_EQ(std::count(crops.ids.begin(), crops.ids.end(), 'x'), 0);
}

TEST(TokenWindows, HashDependsOnShapeAndEveryId) {
  TokenWindows windows;
  windows.rows = 2;
  windows.columns = 3;
  windows.ids = {1, 2, 3, 4, 5, 6};
  const std::string hash = windows.content_hash();
  EXPECT_EQ(hash.size(), 64u);
  EXPECT_EQ(windows.content_hash(), hash);
  TokenWindows other = windows;
  other.ids[5] = 7;
  EXPECT_NE(other.content_hash(), hash);
  other = windows;
  std::swap(other.rows, other.columns);
  EXPECT_NE(other.content_hash(), hash);
  EXPECT_EQ(windows.slice(1, 2, 2).ids, (std::vector<std::int32_t>{4, 5}));
}

class TokenFile : public testing::Test {
 protected:
  void write(const std::string& name, std::vector<std::int64_t> shape, const std::vector<std::int32_t>& ids) {
    tensors_.push_back({name, DType::kI32, std::move(shape), [ids] {
                          const auto bytes = std::as_bytes(std::span(ids));
                          return std::vector<std::byte>(bytes.begin(), bytes.end());
                        }});
    io::write_safetensors(folder_ / "t.safetensors", tensors_, {});
  }
  std::string spec(const std::string& name = "") const {
    return (folder_ / "t.safetensors").string() + (name.empty() ? "" : ":" + name);
  }
  test::TempDir folder_;
  std::vector<io::TensorToWrite> tensors_;
};

TEST_F(TokenFile, ReadsOneAndTwoDimensions) {
  write("a", {7}, {0, 1, 2, 3, 4, 5, 6});
  EXPECT_EQ(read_token_file(spec(), 3, 10).ids, (std::vector<std::int32_t>{0, 1, 2, 3, 4, 5}));
  write("b", {2, 3}, {0, 1, 2, 3, 4, 5});
  EXPECT_EQ(read_token_file(spec("b"), 2, 10).ids, (std::vector<std::int32_t>{0, 1, 3, 4}));
  EXPECT_EQ(read_token_file(spec("b"), 0, 10).columns, 3);
}

TEST_F(TokenFile, SaysWhatIsWrong) {
  write("a", {4}, {0, 1, 2, 9});
  const std::string message = error_of(ErrorKind::kInvalidArgument, [&] { read_token_file(spec(), 2, 9); });
  EXPECT_NE(message.find("token id 9"), std::string::npos);
  EXPECT_NE(message.find("row 1, column 1"), std::string::npos);
  EXPECT_EQ(read_token_file(spec(), 2, 10).rows, 2);
  error_of(ErrorKind::kInvalidArgument, [&] { read_token_file(spec(), 5, 10); });
  error_of(ErrorKind::kNotFound, [&] { read_token_file(spec("b"), 2, 10); });
  write("b", {1}, {-1});
  EXPECT_NE(error_of(ErrorKind::kInvalidArgument, [&] { read_token_file(spec(), 1, 10); }).find("a, b"),
            std::string::npos);
  error_of(ErrorKind::kInvalidArgument, [&] { read_token_file(spec("b"), 1, 10); });
  error_of(ErrorKind::kInvalidArgument, [&] { read_token_file("file.txt", 1, 10); });
}

// A hub of files: HF_ENDPOINT points to a folder.
class NamedCorpus : public testing::Test {
 protected:
  void SetUp() override { ::setenv("HF_ENDPOINT", ("file://" + (folder_ / "hub").string()).c_str(), 1); }
  void TearDown() override { ::unsetenv("HF_ENDPOINT"); }
  void serve(const std::string& path, const std::string& content) {
    const auto file = folder_ / ("hub/" + path);
    std::filesystem::create_directories(file.parent_path());
    test::write_file(file, content);
  }
  std::filesystem::path cache() const { return folder_ / "cache"; }
  test::TempDir folder_;
};

constexpr const char* kC4Train = "datasets/allenai/c4/resolve/main/en/c4-train.00000-of-01024.json.gz";

TEST_F(NamedCorpus, IsDownloadedOnceAndKept) {
  serve(kC4Train, gzip(kLines));
  EXPECT_EQ(named_corpus("c4", "train", cache()).documents.size(), 2u);
  std::filesystem::remove_all(folder_ / "hub");
  EXPECT_EQ(named_corpus("c4", "train", cache()).documents.size(), 2u);
}

TEST_F(NamedCorpus, SaysWhichFileToPutInPlace) {
  const std::string message =
      error_of(ErrorKind::kNotFound, [&] { named_corpus("c4", "validation", cache()); });
  EXPECT_NE(message.find((cache() / "c4/c4-validation.00000-of-00008.json.gz").string()), std::string::npos);
  EXPECT_NE(message.find("datasets/allenai/c4/resolve/main/en/c4-validation.00000-of-00008.json.gz"),
            std::string::npos);
}

TEST_F(NamedCorpus, KeepsNothingOfADamagedDownload) {
  serve(kC4Train, gzip(kLines).substr(0, 25));
  error_of(ErrorKind::kNotFound, [&] { named_corpus("c4", "train", cache()); });
  serve(kC4Train, "<html>sign in first</html>");
  error_of(ErrorKind::kNotFound, [&] { named_corpus("c4", "train", cache()); });
  EXPECT_TRUE(std::filesystem::is_empty(cache() / "c4"));
}

TEST_F(NamedCorpus, RefusesUnknownNamesAndSplits) {
  EXPECT_TRUE(is_named_corpus("wikitext2"));
  EXPECT_FALSE(is_named_corpus("wikitext"));
  error_of(ErrorKind::kInvalidArgument, [&] { named_corpus("ptb", "train", cache()); });
  error_of(ErrorKind::kInvalidArgument, [&] { named_corpus("c4", "test", cache()); });
}

TEST_F(NamedCorpus, ChecksWikitextPutInPlaceByHand) {
  std::filesystem::create_directories(cache() / "wikitext2");
  test::write_file(cache() / "wikitext2/wiki.test.raw", "another text\n");
  EXPECT_NE(
      error_of(ErrorKind::kCorrupt, [&] { named_corpus("wikitext2", "test", cache()); }).find("SHA-256"),
      std::string::npos);
  test::write_file(cache() / "wikitext2/wiki.train.raw", " = A = \n");
  EXPECT_EQ(named_corpus("wikitext2", "train", cache()).documents.at(0), " = A = \n");
}

// One stored member.
std::string zip(const std::string& name, const std::string& content) {
  const auto put = [](std::string& out, std::uint32_t value, int size) {
    for (int i = 0; i < size; ++i) out += static_cast<char>((value >> (8 * i)) & 0xFF);
  };
  const auto crc = static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size())));
  const auto size = static_cast<std::uint32_t>(content.size()),
             length = static_cast<std::uint32_t>(name.size());
  std::string common;
  for (const std::uint32_t field : {0u, 0u, 0u, 0u}) put(common, field, 2);  // flags, method, time, date
  put(common, crc, 4);
  put(common, size, 4);
  put(common, size, 4);
  put(common, length, 2);
  put(common, 0, 2);
  std::string out = std::string("PK\x03\x04\x14\x00", 6) + common + name + content;
  const auto directory = static_cast<std::uint32_t>(out.size());
  out += std::string("PK\x01\x02\x14\x00\x14\x00", 8) + common;
  for (const std::uint32_t field : {0u, 0u, 0u}) put(out, field, 2);  // comment, disk, attributes
  put(out, 0, 4);
  put(out, 0, 4);
  out += name;
  const auto end = static_cast<std::uint32_t>(out.size());
  out += std::string("PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00", 12);
  put(out, end - directory, 4);
  put(out, directory, 4);
  put(out, 0, 2);
  return out;
}

TEST(ReadZipMember, ReadsAndChecks) {
  const test::TempDir folder;
  std::string archive = zip("folder/wiki.test.raw", "some text");
  test::write_file(folder / "a.zip", archive);
  EXPECT_EQ(read_zip_member(folder / "a.zip", "wiki.test.raw"), "some text");
  error_of(ErrorKind::kNotFound, [&] { read_zip_member(folder / "a.zip", "wiki.train.raw"); });
  for (std::size_t size = 0; size < archive.size(); ++size) {
    test::write_file(folder / "b.zip", archive.substr(0, size));
    error_of(ErrorKind::kCorrupt, [&] { read_zip_member(folder / "b.zip", "wiki.test.raw"); });
  }
  archive[archive.find("some")] = 'S';
  test::write_file(folder / "c.zip", archive);
  EXPECT_NE(error_of(ErrorKind::kCorrupt, [&] { read_zip_member(folder / "c.zip", "wiki.test.raw"); })
                .find("CRC-32"),
            std::string::npos);
}

}  // namespace
}  // namespace crumb::data
