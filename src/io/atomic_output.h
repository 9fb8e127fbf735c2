// Output that is either whole or absent: written under a temporary name beside its place, synced, renamed.
#pragma once
#include <filesystem>
#include <span>
#include <string_view>

namespace crumb::io {

/// Writes `bytes` to a temporary file beside `path`, fsyncs file and folder, renames. An existing file stays intact until the rename.
/// Throws Io with the system's reason (full disk, no permission); the temporary file is removed then.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_text_atomically(const std::filesystem::path& path, std::string_view text);

/// A directory that appears under its name only when commit() has been called.
/// An existing directory of that name is moved aside first and removed after the rename; if the rename fails it is moved back.
class AtomicDirectory {
 public:
  /// Throws Io when the parent does not exist or cannot be written.
  explicit AtomicDirectory(std::filesystem::path destination);
  /// Without commit(): removes the temporary directory.
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  /// Where to write until commit().
  const std::filesystem::path& path() const { return temporary_; }
  /// fsyncs every file and folder below path(), then renames.
  void commit();

 private:
  std::filesystem::path destination_, temporary_;
  bool committed_ = false;
};

/// fsync of one file or folder; throws Io.
void sync_path(const std::filesystem::path& path);

/// Throws Io unless the file system that holds `path` has at least `bytes` free: found, expected, what to do.
void check_free_space(const std::filesystem::path& path, std::int64_t bytes);

}  // namespace crumb::io
