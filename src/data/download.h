// One file from the network into its place.
#pragma once
#include <filesystem>
#include <functional>
#include <string>

namespace crumb::data {

/// The public hub's address: HF_ENDPOINT when set, as that hub's own tools read it.
std::string hub_address();

/// Downloads `url` to a temporary name beside `path`, calls `verify` on it (which throws when it is not what
/// it should be), syncs and renames. Throws Io with the reason; no part of a failed download stays. Follows
/// redirects; the usual proxy variables are honored; stops on Ctrl-C.
void download(const std::string& url, const std::filesystem::path& path,
              const std::function<void(const std::filesystem::path&)>& verify);

}  // namespace crumb::data
