#include "formats/companions.h"

#include "io/atomic_output.h"
#include "io/json.h"

namespace crumb::formats {

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
