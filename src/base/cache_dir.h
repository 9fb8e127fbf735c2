// Where downloaded corpora and other files that can be fetched again are kept.
#pragma once
#include <filesystem>

namespace crumb {

/// CRUMB_CACHE, else $XDG_CACHE_HOME/crumb, else ~/.cache/crumb, else a folder of the system's temporary
/// directory. It may not exist yet.
std::filesystem::path cache_dir();

}  // namespace crumb
