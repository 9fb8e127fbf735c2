// The GGUF container: metadata and a table of tensors. What the tensor types mean is formats/gguf_types.h.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/mapped_file.h"

namespace crumb::io {

/// A metadata value. Integers of any width are kept as i64 or u64, floats as double; arrays of one element type.
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  std::vector<std::int64_t> dims;  // as stored: dims[0] is K, the contiguous one
  std::uint32_t type = 0;          // ggml type id
  std::uint64_t offset = 0;        // from the start of the data
};

/// One file, versions 2 and 3, little-endian, validated when opened: counts and lengths against the file's size, duplicate keys and names,
/// alignment. Tensor extents are checked against `type_size` (block elements, block bytes) that the caller's type table gives.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;
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
  std::uint64_t data_begin_ = 0;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

/// Writes a GGUF v3 file; used by tests now and by the export later. Each tensor's bytes are produced in turn.
struct GgufTensorToWrite {
  std::string name;
  std::vector<std::int64_t> dims;
  std::uint32_t type;
  std::vector<std::byte> bytes;
};
void write_gguf(const std::filesystem::path& path, const std::vector<std::pair<std::string, GgufValue>>& metadata,
                const std::vector<GgufTensorToWrite>& tensors);

}  // namespace crumb::io
