#include "calib/activation_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/str.h"

namespace crumb::calib {
namespace {

at::ScalarType scalar_type(StoreDtype dtype) {
  return dtype == StoreDtype::kF32 ? at::kFloat : at::kBFloat16;
}

// An unlinked file of `bytes`, mapped. mmap is closed by the tensor's deleter.
at::Tensor map_file(const std::filesystem::path& directory, std::int64_t bytes, at::IntArrayRef shape,
                    at::ScalarType type) {
  std::string name = (directory / "activations-XXXXXX").string();
  const int descriptor = ::mkstemp(name.data());
  if (descriptor < 0) {
    fail(ErrorKind::kIo, "calib.activation_store", directory.string(),
         ": cannot make a file: ", std::strerror(errno),
         "; want a writable folder for activation streams; choose another run directory");
  }
  ::unlink(name.c_str());
  // Reserved now: a full disk must be an error here, not a SIGBUS at the first write to a hole.
  const int reserved = ::posix_fallocate(descriptor, 0, bytes);
  if (reserved != 0) {
    ::close(descriptor);
    fail(ErrorKind::kIo, "calib.activation_store", directory.string(), ": cannot reserve ",
         human_bytes(static_cast<double>(bytes)), ": ", std::strerror(reserved),
         "; free disk space, or use fewer or shorter windows");
  }
  void* address =
      ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  const int map_error = errno;
  ::close(descriptor);
  if (address == MAP_FAILED) {
    fail(ErrorKind::kIo, "calib.activation_store", directory.string(), ": cannot map ",
         human_bytes(static_cast<double>(bytes)), ": ", std::strerror(map_error),
         "; free memory or use fewer windows");
  }
  return at::from_blob(
      address, shape, [bytes](void* p) { ::munmap(p, static_cast<std::size_t>(bytes)); },
      at::TensorOptions(type));
}

}  // namespace

struct ActivationStore::Impl {
  at::Tensor data;  // [windows, tokens, hidden_size]
  bool mapped = false;
};

std::int64_t ActivationStore::bytes_needed(std::int64_t windows, std::int64_t tokens,
                                           std::int64_t hidden_size, StoreDtype dtype) {
  return windows * tokens * hidden_size * (dtype == StoreDtype::kF32 ? 4 : 2);
}

ActivationStore::ActivationStore(std::int64_t windows, std::int64_t tokens, std::int64_t hidden_size,
                                 const StoreOptions& options)
    : impl_(std::make_unique<Impl>()) {
  CRUMB_CHECK(windows >= 0 && tokens > 0 && hidden_size > 0);
  const std::int64_t bytes = bytes_needed(windows, tokens, hidden_size, options.dtype);
  impl_->mapped = bytes > 0 && options.ram_limit_bytes > 0 && bytes > options.ram_limit_bytes;
  impl_->data = impl_->mapped ? map_file(options.directory, bytes, {windows, tokens, hidden_size},
                                         scalar_type(options.dtype))
                              : at::empty({windows, tokens, hidden_size}, scalar_type(options.dtype));
}
ActivationStore::~ActivationStore() = default;
ActivationStore::ActivationStore(ActivationStore&&) noexcept = default;
ActivationStore& ActivationStore::operator=(ActivationStore&&) noexcept = default;

std::int64_t ActivationStore::windows() const {
  return impl_->data.size(0);
}
std::int64_t ActivationStore::tokens() const {
  return impl_->data.size(1);
}
std::int64_t ActivationStore::hidden_size() const {
  return impl_->data.size(2);
}
bool ActivationStore::mapped() const {
  return impl_->mapped;
}

at::Tensor ActivationStore::read(std::int64_t begin, std::int64_t count) const {
  return impl_->data.narrow(0, begin, count).to(at::kFloat);
}

at::Tensor ActivationStore::read_windows(std::span<const std::int64_t> windows) const {
  if (windows.size() == 1) return read(windows[0], 1);
  std::vector<at::Tensor> parts;
  for (const std::int64_t window : windows) parts.push_back(read(window, 1));
  return at::cat(parts);
}

void ActivationStore::write(std::int64_t begin, const at::Tensor& x) {
  CRUMB_CHECK(x.dim() == 3 && x.size(1) == tokens() && x.size(2) == hidden_size());
  impl_->data.narrow(0, begin, x.size(0)).copy_(x.detach());
}

}  // namespace crumb::calib
