// Files that several tokenizer tests read, and small tokenizers made on the spot.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "support/shared_data.h"

namespace crumb::test {

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

inline void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// The demo's model: CRUMB_DEMO_MODEL, else demo/model/ of the source folder.
inline std::optional<std::filesystem::path> demo_model() {
  const char* set = std::getenv("CRUMB_DEMO_MODEL");
  const std::filesystem::path path =
      set != nullptr ? set
                     : std::filesystem::path(CRUMB_SOURCE_DIR) / "demo/model/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) return std::nullopt;
  return path;
}

struct TokenizerVector {
  std::string text;
  std::vector<std::int32_t> ids;
};

/// NAME.inp holds texts between separator lines, NAME.out a line of ids for each.
inline std::vector<TokenizerVector> read_vectors(const std::filesystem::path& without_ending) {
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  const std::string texts = read_file(without_ending.string() + ".inp");
  std::vector<TokenizerVector> vectors;
  for (std::size_t at = 0;;) {
    const std::size_t end = texts.find(kSeparator, at);
    vectors.push_back({texts.substr(at, end == std::string::npos ? end : end - at), {}});
    if (end == std::string::npos) break;
    at = end + kSeparator.size();
  }
  std::istringstream lines(read_file(without_ending.string() + ".out"));
  std::string line;
  for (std::size_t i = 0; std::getline(lines, line) && i < vectors.size(); ++i) {
    std::istringstream ids(line);
    for (std::int32_t id; ids >> id;) vectors[i].ids.push_back(id);
  }
  return vectors;
}

/// A byte-level tokenizer.json without merges: ids 0..255 are the bytes in the order of the alphabet's
/// characters given here, the sections as the caller writes them.
struct TinyTokenizerJson {
  std::string normalizer = "null";
  std::string pre_tokenizer = R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";
  std::string post_processor = "null";
  std::string decoder = R"({"type": "ByteLevel"})";
  std::string added_tokens = "[]";
  std::string vocab =
      R"({"a": 0, "b": 1, "c": 2, "Ġ": 3, "ab": 4, "abc": 5, "Ġa": 6, "1": 7, "2": 8, "12": 9, "Ã": 10, "©": 11, "Ã©": 12, "x": 13})";
  std::string merges = R"(["a b", ["ab", "c"], "Ġ a", "1 2", "Ã ©"])";
  std::string model_fields;
  std::string text() const {
    return R"({"version": "1.0", "added_tokens": )" + added_tokens + R"(, "normalizer": )" + normalizer +
           R"(, "pre_tokenizer": )" + pre_tokenizer + R"(, "post_processor": )" + post_processor +
           R"(, "decoder": )" + decoder + R"(, "model": {"type": "BPE", "vocab": )" + vocab +
           R"(, "merges": )" + merges + model_fields + "}}";
  }
};

}  // namespace crumb::test
