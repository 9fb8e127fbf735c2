#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/compressed.h"
#include "data/utf8.h"
#include "data/windows.h"
#include "io/json.h"

namespace crumb::data {
namespace {

constexpr std::string_view kWhere = "data.read_corpus";

// The name without .gz or .zst: its ending says what the content is.
std::filesystem::path content_name(const std::filesystem::path& path) {
  const auto name = path.filename();
  return name.extension() == ".gz" || name.extension() == ".zst" ? name.stem() : name;
}

bool is_json_lines(const std::filesystem::path& name) {
  const auto ending = name.extension();
  return ending == ".jsonl" || ending == ".ndjson" || ending == ".json";
}

bool is_wikitext(const std::filesystem::path& name) {
  const std::string text = name.string();
  return text == "wiki.train.raw" || text == "wiki.valid.raw" || text == "wiki.test.raw";
}

std::string document_of(std::string_view line, const std::string& subject, std::size_t number) {
  const std::string where = cat(subject, " line ", number);
  const nlohmann::json json = io::parse_json(line, where);
  const auto text = json.is_object() ? json.find("text") : json.end();
  if (!json.is_object() || text == json.end() || !text->is_string()) {
    fail(ErrorKind::kCorrupt, kWhere, where,
         ": no string field \"text\"; want one JSON object with it on each line; convert the file");
  }
  return text->get<std::string>();
}

}  // namespace

std::string join_wikitext(std::string_view raw) {
  // The published dataset has one row per line, its newline kept; rows of white space only are empty; rows
  // are joined with "\n\n".
  std::string out;
  out.reserve(raw.size() + raw.size() / 8);
  bool first = true;
  while (!raw.empty()) {
    const std::size_t end = raw.find('\n');
    const std::string_view line = raw.substr(0, end == std::string_view::npos ? raw.size() : end + 1);
    raw.remove_prefix(line.size());
    if (!first) out += "\n\n";
    first = false;
    bool blank = true;
    for (std::size_t at = 0; at < line.size() && blank;) {
      const std::size_t length = std::max<std::size_t>(utf8_length(line, at), 1);
      blank = is_white_space(utf8_code_point(line, at, length));
      at += length;
    }
    if (!blank) out += line;
  }
  return out;
}

Corpus read_corpus(const std::filesystem::path& path) {
  Corpus corpus;
  corpus.source = path.string();
  const auto name = content_name(path);
  if (is_json_lines(name)) {
    std::string line;
    std::size_t number = 0;
    const auto finish_line = [&] {
      ++number;
      if (line.find_first_not_of(" \t\r") != std::string::npos)
        corpus.documents.push_back(document_of(line, corpus.source, number));
      line.clear();
    };
    read_chunks(path, [&](std::string_view chunk) {
      for (std::size_t end; (end = chunk.find('\n')) != std::string_view::npos;
           chunk.remove_prefix(end + 1)) {
        line += chunk.substr(0, end);
        finish_line();
      }
      line += chunk;
    });
    if (!line.empty()) finish_line();
  } else {
    std::string text;
    read_chunks(path, [&](std::string_view chunk) { text += chunk; });
    const std::size_t invalid = find_invalid_utf8(text);
    if (invalid != std::string::npos) {
      fail(ErrorKind::kCorrupt, kWhere, corpus.source, ": byte ", invalid, " of ", text.size(),
           " is not valid UTF-8; want UTF-8 text; convert it (iconv -t UTF-8)");
    }
    if (is_wikitext(name)) text = join_wikitext(text);
    if (!text.empty()) corpus.documents.push_back(std::move(text));
  }
  const bool empty = std::all_of(corpus.documents.begin(), corpus.documents.end(),
                                 [](const std::string& d) { return d.empty(); });
  if (empty)
    fail(ErrorKind::kCorrupt, kWhere, corpus.source,
         ": holds no text; want at least one document; check the file");
  return corpus;
}

}  // namespace crumb::data
