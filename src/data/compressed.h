// Plain, gzip, zstd and zip files as bytes.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace crumb::data {

/// Calls `take` with the content of `path` in parts, decompressed when `name` (by default the path itself)
/// ends in .gz or .zst. Throws NotFound, Io, Corrupt (not of that format, cut short, wrong checksum).
void read_chunks(const std::filesystem::path& path, const std::function<void(std::string_view)>& take,
                 std::filesystem::path name = {});

/// One member of a zip archive, its CRC-32 checked. `name` is the end of the member's path. Throws NotFound,
/// Corrupt, Unsupported (zip64, encryption, methods other than stored and deflated).
std::string read_zip_member(const std::filesystem::path& archive, std::string_view name);

}  // namespace crumb::data
