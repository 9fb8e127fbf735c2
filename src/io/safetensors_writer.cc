// Writing; reading is safetensors.cc.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "io/atomic_output.h"
#include "io/file_writer.h"
#include "io/safetensors.h"

namespace crumb::io {
namespace {

constexpr std::string_view kWhere = "io.write_safetensors";
constexpr std::size_t kMaxHeaderBytes = 100'000'000;

std::uint64_t tensor_bytes(const TensorToWrite& tensor) {
  auto bytes = static_cast<std::int64_t>(size_bytes(tensor.dtype));
  for (const std::int64_t dim : tensor.shape) {
    if (dim < 0 || __builtin_mul_overflow(bytes, dim, &bytes)) {
      fail(ErrorKind::kInvalidArgument, kWhere, "tensor '", tensor.name, "': shape ",
           shape_string(tensor.shape), "; expected sizes from 0 on whose product fits in 63 bits");
    }
  }
  return static_cast<std::uint64_t>(bytes);
}

// Wide dtypes first keeps every tensor aligned without gaps, which readers refuse; then by name, so that the
// file is reproducible.
void sort_for_file(std::vector<TensorToWrite>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return std::pair(-size_bytes(a.dtype), std::string_view(a.name)) <
           std::pair(-size_bytes(b.dtype), std::string_view(b.name));
  });
}

void check_names(const std::vector<TensorToWrite>& tensors) {
  std::vector<std::string_view> names;
  for (const TensorToWrite& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    fail(ErrorKind::kInvalidArgument, kWhere, "tensor '", *twice, "': given twice; expected once");
  if (std::binary_search(names.begin(), names.end(), std::string_view("__metadata__"))) {
    fail(ErrorKind::kInvalidArgument, kWhere, "tensor '__metadata__': the format reserves this name");
  }
}

std::string header_text(const std::vector<TensorToWrite>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  nlohmann::ordered_json::object_t& fields = header.get_ref<nlohmann::ordered_json::object_t&>();
  for (const TensorToWrite& tensor : tensors) {
    const std::uint64_t end = offset + tensor_bytes(tensor);
    nlohmann::ordered_json entry;
    entry["dtype"] = std::string(to_string(tensor.dtype));
    entry["shape"] = nlohmann::ordered_json::array();
    for (const std::int64_t dim : tensor.shape) entry["shape"].push_back(dim);
    entry["data_offsets"] = std::array<std::uint64_t, 2>{offset, end};
    // Appended without the look-up that operator[] makes: ordered_json's is linear, and names are unique
    // already.
    static_cast<nlohmann::ordered_json::object_t::Container&>(fields).emplace_back(tensor.name,
                                                                                   std::move(entry));
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    fail(ErrorKind::kInvalidArgument, kWhere,
         "a tensor's name or a metadata value is not UTF-8; the format requires it");
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxHeaderBytes) {
    fail(ErrorKind::kInvalidArgument, kWhere, "the header has ", text.size(), " bytes; readers take at most ",
         kMaxHeaderBytes);
  }
  return text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  check_names(tensors);
  sort_for_file(tensors);
  const std::string header = header_text(tensors, metadata);
  FileWriter writer(path);
  const std::uint64_t length = header.size();
  writer.write(std::as_bytes(std::span(&length, 1)));
  writer.write(std::as_bytes(std::span(header.data(), header.size())));
  for (TensorToWrite& tensor : tensors) {
    const std::vector<std::byte> bytes = tensor.produce();
    if (bytes.size() != tensor_bytes(tensor)) {
      fail(ErrorKind::kInvalidArgument, kWhere, path.string(), ": tensor '", tensor.name, "': produced ",
           bytes.size(), " bytes; ", to_string(tensor.dtype), " ", shape_string(tensor.shape), " needs ",
           tensor_bytes(tensor));
    }
    writer.write(bytes);
    tensor.produce = nullptr;  // what it holds may be large
  }
  writer.close();
}

void write_safetensors_atomically(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                                  const std::map<std::string, std::string>& metadata) {
  AtomicFile file(path);
  write_safetensors(file.path(), std::move(tensors), metadata);
  file.commit();
}

std::string shard_file_name(std::size_t number, std::size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number, count);
  return name;
}

void write_shard_index(const std::filesystem::path& folder,
                       const std::map<std::string, std::string>& file_of_tensor, std::uint64_t total_bytes) {
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", file_of_tensor}};
  const std::string text = index.dump(2) + "\n";
  FileWriter writer(folder / "model.safetensors.index.json");
  writer.write(std::as_bytes(std::span(text.data(), text.size())));
  writer.close();
}

std::int64_t write_sharded_safetensors(const std::filesystem::path& folder,
                                       std::vector<TensorToWrite> tensors, std::int64_t shard_bytes,
                                       const std::map<std::string, std::string>& metadata) {
  if (shard_bytes <= 0)
    fail(ErrorKind::kInvalidArgument, kWhere, "shard_bytes is ", shard_bytes, "; expected a positive number");
  check_names(tensors);
  const auto limit = static_cast<std::uint64_t>(shard_bytes);
  std::vector<std::vector<TensorToWrite>> shards(1);
  std::uint64_t in_shard = 0, total = 0;
  for (TensorToWrite& tensor : tensors) {
    const std::uint64_t bytes = tensor_bytes(tensor);
    if (!shards.back().empty() && in_shard + bytes > limit) {
      shards.emplace_back();
      in_shard = 0;
    }
    in_shard += bytes;
    total += bytes;
    shards.back().push_back(std::move(tensor));
  }
  if (shards.size() == 1) {
    write_safetensors(folder / "model.safetensors", std::move(shards[0]), metadata);
    return 1;
  }
  if (shards.size() > 99'999) {
    fail(ErrorKind::kInvalidArgument, kWhere, "shard_bytes ", shard_bytes, " makes ", shards.size(),
         " files; expected at most 99999");
  }
  std::map<std::string, std::string> file_of_tensor;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_file_name(i + 1, shards.size());
    for (const TensorToWrite& tensor : shards[i]) file_of_tensor[tensor.name] = name;
    write_safetensors(folder / name, std::move(shards[i]), metadata);
  }
  write_shard_index(folder, file_of_tensor, total);
  return static_cast<std::int64_t>(shards.size());
}

}  // namespace crumb::io
