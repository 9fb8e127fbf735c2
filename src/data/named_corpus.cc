#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/compressed.h"
#include "data/download.h"
#include "data/numpy_random.h"
#include "data/windows.h"
#include "io/atomic_output.h"
#include "io/json.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.named_corpus";
constexpr std::string_view kWikitextArchive = "/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip";
constexpr std::string_view kC4Folder = "/datasets/allenai/c4/resolve/main/en/";
constexpr std::string_view kRedPajamaFolder =
    "/datasets/togethercomputer/RedPajama-Data-1T-Sample/resolve/main/";
// The published digest; the train and validation files are checked by the archive's CRC-32.
constexpr std::string_view kWikitextTestSha256 =
    "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08";
constexpr const char* kRedPajamaFiles[] = {
    "arxiv_sample.jsonl",         "book_sample.jsonl",       "c4_sample.jsonl",
    "cc_2019-30_sample.jsonl",    "cc_2020-05_sample.jsonl", "cc_2021-04_sample.jsonl",
    "cc_2022-05_sample.jsonl",    "cc_2023-06_sample.jsonl", "github_sample.jsonl",
    "stackexchange_sample.jsonl", "wikipedia_sample.jsonl"};
constexpr std::uint64_t kRedPajamaSeed = 2;  // the paper's code shuffles the documents before it draws

// Downloads unless `path` is there; a failure says which file to put there by hand.
void fetch(const std::string& url, const std::filesystem::path& path, const std::filesystem::path& wanted,
           const std::function<void(const std::filesystem::path&)>& verify) {
  if (std::filesystem::exists(path)) return;
  try {
    download(url, path, verify);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInterrupted) throw;
    fail(ErrorKind::kNotFound, kWhere, wanted.string(), ": not there, and the download failed (",
         error.what(), "); want the content of ", url,
         "; put that file there by hand, or name a file of your own instead of the corpus");
  }
}

// Reads a downloaded file to its end (gzip has a checksum there) and looks at its beginning. `name` says
// whether it is compressed.
std::function<void(const std::filesystem::path&)> check_json_lines(const std::string& name) {
  return [name](const std::filesystem::path& path) {
    std::string start;
    read_chunks(
        path,
        [&](std::string_view chunk) {
          if (start.empty()) start = chunk.substr(0, 64);
        },
        name);
    if (!start.starts_with('{')) {
      fail(ErrorKind::kCorrupt, kWhere, name,
           ": does not begin with a JSON object; want JSON lines; the network may have answered with a page "
           "of its own");
    }
  };
}

Corpus wikitext2(std::string_view split, const std::filesystem::path& folder) {
  const std::string name = cat("wiki.", split == "validation" ? "valid" : split, ".raw");
  const std::filesystem::path path = folder / name;
  if (!std::filesystem::exists(path)) {
    const std::filesystem::path archive = folder / "wikitext-2-raw-v1.zip";
    fetch(hub_address() + std::string(kWikitextArchive), archive, path,
          [](const std::filesystem::path& file) { (void)read_zip_member(file, "wiki.test.raw"); });
    io::write_text_atomically(path, read_zip_member(archive, name));
  }
  if (split == "test") {
    const std::string text = io::read_text_file(path);
    const std::string digest = sha256_hex(std::as_bytes(std::span(text)));
    if (digest != kWikitextTestSha256) {
      fail(ErrorKind::kCorrupt, kWhere, path.string(), ": SHA-256 is ", digest, "; want ",
           kWikitextTestSha256, "; remove the file and run again");
    }
  }
  return read_corpus(path);
}

Corpus c4(std::string_view split, const std::filesystem::path& folder) {
  const std::string name =
      split == "train" ? "c4-train.00000-of-01024.json.gz" : "c4-validation.00000-of-00008.json.gz";
  fetch(hub_address() + std::string(kC4Folder) + name, folder / name, folder / name, check_json_lines(name));
  Corpus corpus = read_corpus(folder / name);
  corpus.evaluate_by_crops = split != "train";
  return corpus;
}

Corpus redpajama(const std::filesystem::path& folder) {
  Corpus all;
  for (const char* name : kRedPajamaFiles) {
    fetch(hub_address() + std::string(kRedPajamaFolder) + name, folder / name, folder / name,
          check_json_lines(name));
    Corpus part = read_corpus(folder / name);
    std::move(part.documents.begin(), part.documents.end(), std::back_inserter(all.documents));
  }
  Corpus shuffled;
  shuffled.documents.reserve(all.documents.size());
  for (const std::int64_t i :
       numpy_permutation(kRedPajamaSeed, static_cast<std::int64_t>(all.documents.size()))) {
    shuffled.documents.push_back(std::move(all.documents[static_cast<std::size_t>(i)]));
  }
  return shuffled;
}

}  // namespace

bool is_named_corpus(std::string_view name) {
  return name == "wikitext2" || name == "c4" || name == "redpajama";
}

Corpus named_corpus(std::string_view name, std::string_view split, const std::filesystem::path& cache_dir) {
  const bool known =
      (name == "wikitext2" && (split == "train" || split == "validation" || split == "test")) ||
      (name == "c4" && (split == "train" || split == "validation")) ||
      (name == "redpajama" && split == "train");
  if (!known) {
    fail(ErrorKind::kInvalidArgument, kWhere, name, " (", split,
         "): no such corpus or split; crumb has wikitext2 (train, validation, test), c4 (train, "
         "validation), redpajama (train); name one of these or a file");
  }
  const std::filesystem::path folder = cache_dir / std::string(name);
  Corpus corpus = name == "wikitext2" ? wikitext2(split, folder)
                  : name == "c4"      ? c4(split, folder)
                                      : redpajama(folder);
  corpus.source = cat(name, " (", split, ")");
  return corpus;
}

}  // namespace crumb::data
