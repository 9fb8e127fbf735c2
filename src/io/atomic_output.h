// Output that is either whole or absent: written under a temporary name beside its place, synced, renamed.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace crumb::io {

/// Writes `bytes` to a temporary file beside `path`, fsyncs file and folder, renames. An existing file stays intact until the rename.
/// Throws Io with the system's reason (full disk, no permission); the temporary file is removed then.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_text_atomically(const std::filesystem::path& path, std::string_view text);

/// A file that appears under its name only when commit() has been called; for writers that need a path. The temporary name is
/// `.NAME.crumb-tmp-<pid>` in the same folder, so two writers of one path in one process must take turns.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path destination);
  /// Without commit(): removes the temporary file.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Where to write until commit().
  const std::filesystem::path& path() const { return temporary_; }
  /// fsyncs the file, renames it, fsyncs the folder. Throws Io.
  void commit();

 private:
  std::filesystem::path destination_, temporary_;
  bool committed_ = false;
};

/// A directory that appears under its name only when commit() has been called; until then it is `.NAME.crumb-tmp-<pid>` beside it.
/// An existing directory of that name changes places with it in one step (rename exchange) and is removed afterwards: at every moment
/// one whole directory has the name. File systems without that call: moved aside first, and moved back if the rename fails.
/// The old directory is removed with all its contents: whether that is wanted is for the caller to ask. A symbolic link to a directory
/// is followed.
class AtomicDirectory {
 public:
  /// Throws Io when the parent does not exist or cannot be written, or when the name belongs to something other than a directory.
  explicit AtomicDirectory(std::filesystem::path destination);
  /// Without commit(): removes the temporary directory.
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  /// Where to write until commit().
  const std::filesystem::path& path() const { return temporary_; }
  /// fsyncs every file and folder below path(), renames, fsyncs the parent. Throws Io; the earlier directory is intact then.
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
