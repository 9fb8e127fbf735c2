#include "formats/tensor_table.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/error.h"
#include "formats/checkpoint_readers.h"
#include "io/json.h"
#include "model/family.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kWhere = "formats.checkpoint";

}  // namespace

TensorTable::TensorTable(const fs::path& folder, const model::ModelConfig& config) : folder_(folder) {
  if (fs::exists(folder / "model.safetensors.index.json")) {
    open_shards(config);
  } else if (fs::exists(folder / "model.safetensors")) {
    shards_.emplace_back(folder / "model.safetensors");
    for (const auto& tensor : shards_.front().tensors()) add(config, tensor.name, 0);
  } else {
    const bool pickle =
        fs::exists(folder / "pytorch_model.bin") || fs::exists(folder / "pytorch_model.bin.index.json");
    fail(pickle ? ErrorKind::kUnsupported : ErrorKind::kNotFound, kWhere, folder.string(),
         pickle ? ": holds pytorch_model.bin, a pickle" : ": holds no weights",
         "; want model.safetensors or model.safetensors.index.json; ",
         pickle ? "convert it to safetensors" : "the download may be incomplete");
  }
}

void TensorTable::add(const model::ModelConfig& config, const std::string& stored, std::size_t shard) {
  const auto [place, fresh] =
      where_.try_emplace(model::name_from_stored(config, stored), Place{shard, stored});
  if (!fresh && place->second.stored != stored) {
    fail(ErrorKind::kCorrupt, kWhere, folder_.string(), ": tensors '", place->second.stored, "' and '",
         stored, "' are two names of one tensor of ", config.family, " models; want one of them");
  }
}

void TensorTable::open_shards(const model::ModelConfig& config) {
  const fs::path index = folder_ / "model.safetensors.index.json";
  const json map = io::parse_json(io::read_text_file(index), index.string());
  if (!map.is_object() || !map.contains("weight_map") || !map["weight_map"].is_object()) {
    fail(ErrorKind::kCorrupt, kWhere, index.string(),
         ": no weight_map; want the index of a sharded checkpoint");
  }
  std::map<std::string, std::size_t> files;
  for (const auto& [name, file] : map["weight_map"].items()) {
    if (!file.is_string() || file.get<std::string>().find_first_of("/\\") != std::string::npos ||
        !file.get<std::string>().ends_with(".safetensors")) {
      fail(ErrorKind::kCorrupt, kWhere, index.string(), ": '", name, "' lies in ", file.dump(),
           "; want the name of a .safetensors file beside the index");
    }
    const std::string shard = file.get<std::string>();
    if (!files.contains(shard)) {
      if (!fs::exists(folder_ / shard)) {
        fail(ErrorKind::kNotFound, kWhere, (folder_ / shard).string(),
             ": shard is missing; the index names it for '", name, "'; download it again");
      }
      files[shard] = shards_.size();
      shards_.emplace_back(folder_ / shard);
    }
    if (shards_[files[shard]].find(name) == nullptr) {
      fail(ErrorKind::kCorrupt, kWhere, (folder_ / shard).string(), ": tensor '", name,
           "' is not in it; the index says so; download both again");
    }
    add(config, name, files[shard]);
  }
}

const TensorTable::Place& TensorTable::place_of(std::string_view name) const {
  const auto found = where_.find(name);
  if (found == where_.end())
    fail(ErrorKind::kNotFound, kWhere, folder_.string(), ": tensor '", name,
         "' is missing; the download may be incomplete");
  return found->second;
}

const io::TensorInfo& TensorTable::info(std::string_view name) const {
  const Place& place = place_of(name);
  return shards_[place.shard].at(place.stored);
}

std::vector<float> TensorTable::floats(std::string_view name) const {
  const std::vector<std::int64_t>& shape = info(name).shape;
  return float_rows(name, 0, shape.empty() ? 1 : shape[0]);
}

std::vector<float> TensorTable::float_rows(std::string_view name, std::int64_t first,
                                           std::int64_t count) const {
  const io::TensorInfo& tensor = info(name);
  if (!is_float(tensor.dtype)) {
    fail(ErrorKind::kCorrupt, kWhere, folder_.string(), ": tensor '", name, "' is ", to_string(tensor.dtype),
         "; want a float dtype; this is no float checkpoint");
  }
  const std::int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  CRUMB_CHECK(first >= 0 && count >= 0 && first + count <= rows);
  const auto row = static_cast<std::size_t>(rows == 0 ? 0 : tensor.elements() / rows);
  const auto begin = static_cast<std::size_t>(first) * row, length = static_cast<std::size_t>(count) * row;
  const auto width = static_cast<std::size_t>(size_bytes(tensor.dtype));
  std::vector<float> values(length);
  const io::SafetensorsFile& file = file_of(name);
  io::convert_to_f32(file.bytes(tensor).subspan(begin * width, length * width), tensor.dtype, values);
  check_finite(values, file.path().string(), name);
  return values;
}

std::vector<std::int32_t> TensorTable::integers(std::string_view name) const {
  return file_of(name).read_i32(place_of(name).stored);
}

std::vector<std::int8_t> TensorTable::bytes_of_codes(std::string_view name) const {
  const io::TensorInfo& tensor = info(name);
  if (tensor.dtype != DType::kI8) {
    fail(ErrorKind::kCorrupt, kWhere, folder_.string(), ": tensor '", name, "' is ", to_string(tensor.dtype),
         "; the configuration promises codes in I8; config.json may be another model's");
  }
  const auto bytes = file_of(name).bytes(tensor);
  std::vector<std::int8_t> codes(bytes.size());
  if (!codes.empty()) std::memcpy(codes.data(), bytes.data(), bytes.size());
  return codes;
}

std::vector<std::uint32_t> TensorTable::words(std::string_view name) const {
  const io::TensorInfo& tensor = info(name);
  if (tensor.dtype != DType::kI32 && tensor.dtype != DType::kU32) {
    fail(ErrorKind::kCorrupt, kWhere, folder_.string(), ": tensor '", name, "' is ", to_string(tensor.dtype),
         "; codes are packed in I32 or U32; the checkpoint is damaged, or of a format that crumb does not "
         "read");
  }
  std::vector<std::uint32_t> words(static_cast<std::size_t>(tensor.elements()));
  const auto bytes = file_of(name).bytes(tensor);
  if (!words.empty()) std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

void TensorTable::check_shape(const std::string& name, const std::vector<std::int64_t>& expected) const {
  if (!has(name)) {
    fail(ErrorKind::kNotFound, kWhere, folder_.string(), ": tensor '", name,
         "' is missing; the configuration promises it with shape ", shape_string(expected),
         "; the download may be incomplete, or config.json is another model's");
  }
  if (info(name).shape != expected) {
    fail(ErrorKind::kCorrupt, kWhere, folder_.string(), ": tensor '", name, "' has shape ",
         shape_string(info(name).shape), "; the configuration promises ", shape_string(expected),
         "; config.json may be another model's");
  }
}

std::int64_t TensorTable::bytes() const {
  std::int64_t bytes = 0;
  for (const auto& shard : shards_) {
    for (const auto& tensor : shard.tensors()) bytes += static_cast<std::int64_t>(tensor.size);
  }
  return bytes;
}

}  // namespace crumb::formats
