// Files beside the weights that a copy of a model carries along.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "formats/checkpoint.h"

namespace crumb::formats {

/// Those that lie in a directory: tokenizer, generation config, chat template, licence.
std::vector<std::filesystem::path> companions_in(const std::filesystem::path& folder);

/// `texts` by name, and the source's companion files that it does not name, verbatim.
void write_companions(const Checkpoint& source, const std::filesystem::path& folder,
                      const std::map<std::string, std::string>& texts);

}  // namespace crumb::formats
