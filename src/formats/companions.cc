#include "formats/companions.h"

#include "io/atomic_output.h"
#include "io/json.h"

namespace crumb::formats {
namespace {

// Files that a copy of the model carries along.
constexpr std::string_view kCompanions[] = {"tokenizer.json",
                                            "tokenizer_config.json",
                                            "tokenizer.model",
                                            "special_tokens_map.json",
                                            "added_tokens.json",
                                            "vocab.json",
                                            "merges.txt",
                                            "generation_config.json",
                                            "chat_template.jinja",
                                            "chat_template.json",
                                            "LICENSE",
                                            "LICENSE.txt",
                                            "NOTICE",
                                            "USE_POLICY.md"};

}  // namespace

std::vector<std::filesystem::path> companions_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const std::string_view name : kCompanions) {
    if (std::filesystem::exists(folder / name)) files.push_back(folder / name);
  }
  return files;
}

void write_companions(const Checkpoint& source, const std::filesystem::path& folder,
                      const std::map<std::string, std::string>& texts) {
  for (const auto& [name, text] : texts) io::write_text_atomically(folder / name, text);
  for (const std::filesystem::path& file : source.companion_files()) {
    if (texts.contains(file.filename().string())) continue;
    const std::string text = io::read_text_file(file);
    io::write_text_atomically(folder / file.filename(), text);
  }
}

}  // namespace crumb::formats
