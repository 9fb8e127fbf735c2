// The tensors of a Hugging Face directory, in one file or in shards.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace crumb::formats {

/// Every tensor by the name that the file has. Shards are mapped, not read.
class TensorTable {
 public:
  /// model.safetensors.index.json and its shards, or model.safetensors. Throws NotFound, Corrupt, Unsupported
  /// (a pickle).
  explicit TensorTable(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  bool has(std::string_view name) const { return where_.find(name) != where_.end(); }
  /// Throw NotFound.
  const io::TensorInfo& info(std::string_view name) const;
  const io::SafetensorsFile& file_of(std::string_view name) const;

  /// Values of a float tensor as f32; throws Corrupt for another dtype, Numerics for NaN and infinity.
  std::vector<float> floats(std::string_view name) const;
  /// Rows [first, first + count) of it.
  std::vector<float> float_rows(std::string_view name, std::int64_t first, std::int64_t count) const;
  /// Words of codes as they lie in the file: I32 or U32, else Corrupt.
  std::vector<std::uint32_t> words(std::string_view name) const;
  /// Throws NotFound or Corrupt unless the tensor is there with this shape.
  void check_shape(const std::string& name, const std::vector<std::int64_t>& expected) const;

  const std::vector<io::SafetensorsFile>& shards() const { return shards_; }
  /// Bytes of all tensor data.
  std::int64_t bytes() const;

 private:
  void open_shards();

  std::filesystem::path folder_;
  std::vector<io::SafetensorsFile> shards_;
  std::map<std::string, std::size_t, std::less<>> where_;
};

}  // namespace crumb::formats
