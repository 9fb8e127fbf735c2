#include "io/atomic_output.h"

#include <fcntl.h>
#include <linux/fs.h>  // RENAME_EXCHANGE
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/str.h"
#include "io/file_writer.h"

namespace crumb::io {
namespace {

namespace fs = std::filesystem;

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

fs::path beside(const fs::path& path, std::string_view role) {
  return parent_of(path) / cat(".", path.filename().string(), ".crumb-", role, "-", ::getpid());
}

void rename_or_fail(const fs::path& from, const fs::path& to, std::string_view where) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    const int reason = errno;
    fail(ErrorKind::kIo, where, to.string(), ": '", from.filename().string(),
         "' cannot be renamed to it: ", std::strerror(reason));
  }
}

/// Swaps two names in one step. False where the file system has no such call.
bool exchange(const fs::path& a, const fs::path& b) {
  if (::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
  const int reason = errno;
  if (reason == EINVAL || reason == ENOSYS || reason == ENOTSUP) return false;
  fail(ErrorKind::kIo, "io.atomic_directory", b.string(),
       ": cannot be exchanged with its new version: ", std::strerror(reason));
}

void remove_old(const fs::path& old) {
  std::error_code error;
  fs::remove_all(old, error);
  if (error)
    log::warn("[io.atomic_directory] ", old.string(),
              ": the replaced output cannot be removed: ", error.message());
}

void sync_tree(const fs::path& root) {
  std::error_code error;
  fs::recursive_directory_iterator entry(root, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    const fs::file_status status = entry->symlink_status();
    if (fs::is_regular_file(status) || fs::is_directory(status)) sync_path(entry->path());
  }
  if (error)
    fail(ErrorKind::kIo, "io.atomic_directory", root.string(), ": cannot be listed: ", error.message());
  sync_path(root);
}

}  // namespace

void sync_path(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    fail(ErrorKind::kIo, "io.sync_path", path.string(), ": cannot be opened: ", std::strerror(errno));
  const int result = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  // EINVAL: some network file systems cannot sync a folder; there is nothing more to be done then.
  if (result != 0 && reason != EINVAL) {
    fail(ErrorKind::kIo, "io.sync_path", path.string(),
         ": cannot be written to disk: ", std::strerror(reason));
  }
}

AtomicFile::AtomicFile(fs::path destination)
    : destination_(std::move(destination)), temporary_(beside(destination_, "tmp")) {
  if (!destination_.has_filename() || fs::is_directory(destination_)) {
    fail(ErrorKind::kIo, "io.atomic_file", destination_.string(),
         ": is a folder; expected the name of a file");
  }
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::commit() {
  sync_path(temporary_);
  rename_or_fail(temporary_, destination_, "io.atomic_file");
  committed_ = true;
  sync_path(parent_of(destination_));
}

void write_file_atomically(const fs::path& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  FileWriter writer(file.path());
  writer.write(bytes);
  writer.close();
  file.commit();
}

void write_text_atomically(const fs::path& path, std::string_view text) {
  write_file_atomically(path, std::as_bytes(std::span(text.data(), text.size())));
}

AtomicDirectory::AtomicDirectory(fs::path destination) {
  constexpr std::string_view kWhere = "io.atomic_directory";
  std::error_code error;
  if (fs::exists(destination, error)) {
    destination_ =
        fs::canonical(destination, error);  // through a link, so that the new version lies on the same disk
    if (error) fail(ErrorKind::kIo, kWhere, destination.string(), ": ", error.message());
  } else {
    destination_ = destination.lexically_normal();
    if (!destination_.has_filename()) destination_ = destination_.parent_path();  // "out/"
  }
  if (!destination_.has_filename()) {
    fail(ErrorKind::kIo, kWhere, "'", destination.string(), "': is no name for a folder");
  }
  if (fs::exists(destination_, error) && !fs::is_directory(destination_, error)) {
    fail(ErrorKind::kIo, kWhere, destination_.string(),
         ": exists and is not a folder; remove it or choose another name");
  }
  temporary_ = beside(destination_, "tmp");
  fs::remove_all(temporary_, error);  // of an earlier process that had this id
  if (::mkdir(temporary_.c_str(), 0777) != 0) {
    const int reason = errno;
    fail(ErrorKind::kIo, kWhere, destination_.string(), ": cannot be written: ", std::strerror(reason),
         reason == ENOENT ? cat("; its parent '", parent_of(destination_).string(), "' must exist")
                          : std::string());
  }
}

AtomicDirectory::~AtomicDirectory() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void AtomicDirectory::commit() {
  sync_tree(temporary_);
  std::error_code error;
  if (!fs::exists(fs::symlink_status(destination_, error))) {
    rename_or_fail(temporary_, destination_, "io.atomic_directory");
    committed_ = true;
    sync_path(parent_of(destination_));
    return;
  }
  fs::path old = temporary_;  // after the exchange the old version has the temporary name
  if (!exchange(temporary_, destination_)) {
    old = beside(destination_, "old");
    rename_or_fail(destination_, old, "io.atomic_directory");
    if (std::rename(temporary_.c_str(), destination_.c_str()) != 0) {
      const int reason = errno;
      rename_or_fail(old, destination_, "io.atomic_directory");
      fail(ErrorKind::kIo, "io.atomic_directory", destination_.string(),
           ": cannot be replaced: ", std::strerror(reason), "; the earlier output is back in its place");
    }
  }
  committed_ = true;
  sync_path(parent_of(destination_));
  remove_old(old);
}

void check_free_space(const fs::path& path, std::int64_t bytes) {
  fs::path place = path.empty() ? fs::path(".") : path;
  std::error_code error;
  while (!fs::exists(place, error) && place != parent_of(place)) place = parent_of(place);
  struct statvfs status = {};
  if (::statvfs(place.c_str(), &status) != 0) {
    fail(ErrorKind::kIo, "io.check_free_space", place.string(),
         ": its free space cannot be read: ", std::strerror(errno));
  }
  const double free = static_cast<double>(status.f_bavail) * static_cast<double>(status.f_frsize);
  if (free < static_cast<double>(bytes)) {
    fail(ErrorKind::kIo, "io.check_free_space", path.string(), ": ", human_bytes(free), " free; expected ",
         human_bytes(static_cast<double>(bytes)), "; free space there or choose another folder");
  }
}

}  // namespace crumb::io
