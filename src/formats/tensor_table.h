// The tensors of a Hugging Face directory, in one file or in shards.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "model/config.h"

namespace crumb::formats {

/// Every tensor by our name for it (model::stored_name). Shards are mapped, not read.
class TensorTable {
 public:
  /// model.safetensors.index.json and its shards, or model.safetensors. Throws NotFound, Corrupt, Unsupported
  /// (a pickle).
  TensorTable(const std::filesystem::path& folder, const model::ModelConfig& config);

  const std::filesystem::path& folder() const { return folder_; }
  bool has(std::string_view name) const { return where_.find(name) != where_.end(); }
  /// Throws NotFound.
  const io::TensorInfo& info(std::string_view name) const;

  /// Values of a float tensor as f32; throws Corrupt for another dtype, Numerics for NaN and infinity.
  std::vector<float> floats(std::string_view name) const;
  /// Rows [first, first + count) of it.
  std::vector<float> float_rows(std::string_view name, std::int64_t first, std::int64_t count) const;
  /// Values of an I32 tensor; throws Corrupt for another dtype.
  std::vector<std::int32_t> integers(std::string_view name) const;
  /// Values of an I8 tensor; throws Corrupt for another dtype.
  std::vector<std::int8_t> bytes_of_codes(std::string_view name) const;
  /// Words of codes as they lie in the file: I32 or U32, else Corrupt.
  std::vector<std::uint32_t> words(std::string_view name) const;
  /// Throws NotFound or Corrupt unless the tensor is there with this shape.
  void check_shape(const std::string& name, const std::vector<std::int64_t>& expected) const;

  const std::vector<io::SafetensorsFile>& shards() const { return shards_; }
  /// Bytes of all tensor data.
  std::int64_t bytes() const;

 private:
  struct Place {
    std::size_t shard;
    std::string stored;  // the file's name of the tensor
  };
  void open_shards(const model::ModelConfig& config);
  void add(const model::ModelConfig& config, const std::string& stored, std::size_t shard);
  /// Throw NotFound.
  const Place& place_of(std::string_view name) const;
  const io::SafetensorsFile& file_of(std::string_view name) const { return shards_[place_of(name).shard]; }

  std::filesystem::path folder_;
  std::vector<io::SafetensorsFile> shards_;
  std::map<std::string, Place, std::less<>> where_;
};

}  // namespace crumb::formats
