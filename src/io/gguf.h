// The GGUF container: metadata and a table of tensors. What the tensor types mean is formats/gguf_types.h.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "io/mapped_file.h"

namespace crumb::io {

/// A metadata value. Unsigned integers of any width are kept as u64, signed ones as i64, floats as double.
/// Arrays have one element type: integers of any kind and bools are kept as i64 (a u64 element above 2^63 - 1
/// is refused).
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string,
                               std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  std::vector<std::int64_t> dims;  // as stored: dims[0] is K, the contiguous one
  std::uint32_t type = 0;          // ggml type id
  std::uint64_t offset = 0;        // from the start of the data
};

/// One file, versions 2 and 3, little-endian. Validated when opened, throwing Corrupt with file and place:
/// counts and lengths against the file's size before anything is allocated, duplicate keys and names, dims (1
/// to 4, positive, product within 63 bits), alignment, offsets in order. Tensor sizes depend on the types,
/// which this container does not know: check_extents() and bytes() check them. Throws Unsupported for version
/// 1, versions above 3 and big-endian files.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;
  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }
  /// Checks that the tensors lie back to back: each offset is the sum of the padded sizes before it, nothing
  /// passes the end of the file and nothing follows the last one's padding. `tensor_bytes` gives a tensor's
  /// size and may throw for a type that it does not know.
  void check_extents(const std::function<std::uint64_t(const GgufTensor&)>& tensor_bytes) const;
  /// The first `size` bytes of the tensor; throws Corrupt when they pass the end of the file.
  std::span<const std::byte> bytes(const GgufTensor& tensor, std::uint64_t size) const;

  /// Typed look-ups; the first form throws NotFound or Corrupt (another type), naming file and key.
  std::int64_t get_int(std::string_view key) const;
  double get_float(std::string_view key) const;
  const std::string& get_string(std::string_view key) const;
  std::int64_t get_int(std::string_view key, std::int64_t otherwise) const;
  double get_float(std::string_view key, double otherwise) const;
  bool get_bool(std::string_view key, bool otherwise) const;
  std::string get_string(std::string_view key, std::string_view otherwise) const;
  /// nullptr when absent or of another type.
  const std::vector<std::string>* find_strings(std::string_view key) const;
  const std::vector<double>* find_floats(std::string_view key) const;
  const std::vector<std::int64_t>* find_ints(std::string_view key) const;

 private:
  MappedFile file_;
  std::uint64_t data_begin_ = 0, alignment_ = 32;
  std::uint32_t version_ = 0;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

/// A tensor to be written. `produce` is called once, when its turn comes, and must give `size` bytes.
struct GgufTensorToWrite {
  GgufTensorToWrite(std::string name, std::vector<std::int64_t> dims, std::uint32_t type, std::uint64_t size,
                    std::function<std::vector<std::byte>()> produce);
  /// Of bytes that exist already.
  GgufTensorToWrite(std::string name, std::vector<std::int64_t> dims, std::uint32_t type,
                    std::vector<std::byte> bytes);

  std::string name;
  std::vector<std::int64_t> dims;  // dims[0] is K
  std::uint32_t type;
  std::uint64_t size;  // bytes
  std::function<std::vector<std::byte>()> produce;
};

/// Writes a GGUF v3 file; not atomic by itself. Keys and tensors keep their order, so the file depends on
/// nothing else. A value is stored in the type that clients expect: u64 as u32 and i64 as i32 where the
/// number fits, double as f32 (rounded), arrays of i64 as i32 where all fit. general.alignment is honored
/// when given.
///
/// progress: called after each tensor with the bytes of tensors written and of all tensors; may be empty.
///
/// Memory: the header and one tensor. Throws InvalidArgument for duplicate or overlong names, bad dims and a
/// tensor that produces another size; Io, also when the disk has too little room (checked before the first
/// byte).
void write_gguf(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, GgufValue>>& metadata,
                std::vector<GgufTensorToWrite> tensors,
                const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace crumb::io
