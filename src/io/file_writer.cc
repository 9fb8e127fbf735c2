#include "io/file_writer.h"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace crumb::io {
namespace {

std::string cure(int reason) {
  switch (reason) {
    case ENOSPC:
    case EDQUOT:
      return "; free space there or choose another folder";
    case EFBIG:
      return "; raise the file size limit (ulimit -f) or write smaller files";
    default:
      return "";
  }
}

}  // namespace

FileWriter::FileWriter(std::filesystem::path path) : path_(std::move(path)) {
  // A link planted under a temporary name must not lead the writer elsewhere.
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor_ < 0) {
    const int reason = errno;
    fail(ErrorKind::kIo, "io.write", path_.string(), ": cannot be created: ", std::strerror(reason),
         cure(reason));
  }
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FileWriter::write(std::span<const std::byte> bytes) {
  CRUMB_CHECK(descriptor_ >= 0);
  while (!bytes.empty()) {
    // One call moves at most 2^31 bytes on Linux.
    const ssize_t done =
        ::write(descriptor_, bytes.data(), std::min<std::size_t>(bytes.size(), std::size_t{1} << 30));
    if (done < 0) {
      const int reason = errno;
      if (reason == EINTR) continue;
      fail(ErrorKind::kIo, "io.write", path_.string(), ": ", bytes.size(),
           " bytes could not be written: ", std::strerror(reason), cure(reason));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void FileWriter::close() {
  CRUMB_CHECK(descriptor_ >= 0);
  const int result = ::close(std::exchange(descriptor_, -1));
  const int reason = errno;
  if (result != 0 && reason != EINTR) {
    fail(ErrorKind::kIo, "io.write", path_.string(), ": cannot be closed: ", std::strerror(reason),
         cure(reason));
  }
}

}  // namespace crumb::io
