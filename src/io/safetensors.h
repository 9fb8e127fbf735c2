// safetensors: an 8-byte length, a JSON header, tensor bytes. docs/formats/safetensors.md.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "io/mapped_file.h"

namespace crumb::io {

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::size_t offset = 0;  // from the first byte of the tensor part
  std::size_t size = 0;    // bytes

  std::int64_t elements() const;
};

/// One file, validated completely when opened: header length against file size, UTF-8, duplicate keys,
/// shapes, overflow, overlaps, holes, trailing bytes. Throws Corrupt naming file and tensor. dtypes that
/// crumb has no use for (F8, F4 …) are listed in skipped() only.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// In the order of their bytes.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::vector<std::string>& skipped() const { return skipped_; }
  /// nullptr when absent.
  const TensorInfo* find(std::string_view name) const;
  /// Throws NotFound, naming near misses.
  const TensorInfo& at(std::string_view name) const;
  std::span<const std::byte> bytes(const TensorInfo& tensor) const;

  /// The tensor's values as float, whatever float or integer dtype it has. out.size() == elements().
  void read_f32(const TensorInfo& tensor, std::span<float> out) const;
  std::vector<float> read_f32(std::string_view name) const;
  std::vector<double> read_f64(std::string_view name) const;
  /// Integer dtypes only; throws Unsupported for a float tensor.
  std::vector<std::int32_t> read_i32(std::string_view name) const;
  std::vector<std::uint8_t> read_u8(std::string_view name) const;

 private:
  MappedFile file_;
  std::size_t data_begin_ = 0;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::vector<std::string> skipped_;
};

/// Values of `bytes` (elements of dtype) as float; sizes must agree.
void convert_to_f32(std::span<const std::byte> bytes, DType dtype, std::span<float> out);
/// f32 values as bytes of a float dtype, rounded half to even.
std::vector<std::byte> convert_from_f32(std::span<const float> values, DType dtype);

/// A tensor to be written; `produce` is called once, when its turn comes, so that a large model is never in
/// memory at once.
struct TensorToWrite {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::function<std::vector<std::byte>()> produce;
};

/// `values` as they lie in memory, for TensorToWrite::produce.
template <class T>
std::vector<std::byte> bytes_of(std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

/// Writes one file: tensors sorted by dtype size descending, then name; header padded to 8 bytes. Not atomic
/// by itself: write into an AtomicDirectory, or use write_safetensors_atomically. Throws Io; throws
/// InvalidArgument when produce() returns another size.
void write_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata);
void write_safetensors_atomically(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                                  const std::map<std::string, std::string>& metadata);

/// "model-00002-of-00007.safetensors"; `number` counts from 1.
std::string shard_file_name(std::size_t number, std::size_t count);
/// Writes model.safetensors.index.json: the file of each tensor, and the bytes of all tensors.
void write_shard_index(const std::filesystem::path& folder,
                       const std::map<std::string, std::string>& file_of_tensor, std::uint64_t total_bytes);

/// Writes model.safetensors, or shards of at most `shard_bytes` with model.safetensors.index.json, into
/// `folder`. Returns the number of files. transformers refuses files whose metadata names no format.
std::int64_t write_sharded_safetensors(const std::filesystem::path& folder,
                                       std::vector<TensorToWrite> tensors, std::int64_t shard_bytes,
                                       const std::map<std::string, std::string>& metadata = {
                                           {"format", "pt"}});

}  // namespace crumb::io
