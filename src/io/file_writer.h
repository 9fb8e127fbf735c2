// A file being written, with errors that name it. Used inside io; output that must be whole or absent is
// atomic_output.h.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>

namespace crumb::io {

/// Creates or truncates `path` and appends to it. Every member throws Io with the path and the system's
/// reason.
class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path path);
  /// Closes without a check; what was not close()d counts as not written.
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::span<const std::byte> bytes);
  /// Late errors (network and quota file systems report a full disk here) are thrown.
  void close();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace crumb::io
