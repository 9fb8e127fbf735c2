#include "formats/onnx/onnx_file.h"

#include <onnx/onnx_pb.h>

#include <charconv>
#include <optional>

#include "base/error.h"

namespace crumb::formats {
namespace {

constexpr std::string_view kWhere = "formats.onnx";
constexpr std::int64_t kMostElements = std::int64_t{1} << 48;

std::optional<OnnxType> type_of(int number) {
  for (const OnnxType type :
       {OnnxType::kF32, OnnxType::kU8, OnnxType::kI32, OnnxType::kI64, OnnxType::kF16, OnnxType::kBF16}) {
    if (static_cast<int>(type) == number) return type;
  }
  return std::nullopt;
}

// A decimal number of external_data; -1 when it is none.
std::int64_t number(std::string_view text) {
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : -1;
}

}  // namespace

OnnxFile::OnnxFile(const std::filesystem::path& file) : path_(file), model_(file) {
  const auto corrupt = [&](const auto&... what) {
    fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": ", what...);
  };
  const std::span<const std::byte> text = model_.bytes();
  onnx::ModelProto proto;
  if (text.size() > (std::size_t{1} << 31) - 1 ||
      !proto.ParseFromArray(text.data(), static_cast<int>(text.size()))) {
    corrupt("no ONNX model: its messages do not parse; want one of at most 2 GB; copy it again");
  }
  const auto external = [&](const onnx::TensorProto& tensor) -> std::span<const std::byte> {
    std::string location;
    std::int64_t offset = 0, length = -1;
    for (const auto& entry : tensor.external_data()) {
      if (entry.key() == "location") location = entry.value();
      if (entry.key() == "offset") offset = number(entry.value());
      if (entry.key() == "length") length = number(entry.value());
    }
    if (location.empty() || location == "." || location == ".." ||
        location.find_first_of("/\\") != std::string::npos) {
      fail(ErrorKind::kUnsupported, kWhere, path_.string(), ": tensor '", tensor.name(), "' lies in '",
           location, "'; want the name of a file beside the model");
    }
    auto found = data_.find(location);
    if (found == data_.end())
      found = data_.emplace(location, io::MappedFile(path_.parent_path() / location)).first;
    const std::span<const std::byte> all = found->second.bytes();
    const auto size = static_cast<std::int64_t>(all.size());
    if (offset < 0 || length < 0 || offset > size || length > size - offset) {
      corrupt("tensor '", tensor.name(), "' takes ", length, " bytes from ", offset, " on; ", location,
              " has ", size, "; copy both again");
    }
    return all.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length));
  };
  for (const onnx::TensorProto& tensor : proto.graph().initializer()) {
    const auto type = type_of(tensor.data_type());
    if (!type) continue;
    Tensor entry{*type, {}, {}};
    std::int64_t elements = 1;
    for (const std::int64_t dim : tensor.dims()) {
      if (dim < 0 || (dim > 0 && elements > kMostElements / dim))
        corrupt("tensor '", tensor.name(), "' has a dim of ", dim,
                "; want sizes whose product is below 2^48");
      elements *= dim;
      entry.dims.push_back(dim);
    }
    const bool outside = tensor.data_location() == onnx::TensorProto::EXTERNAL;
    if (!outside && tensor.raw_data().empty() && elements > 0) continue;  // values spelled out: shapes, axes
    if (outside) {
      entry.bytes = external(tensor);
    } else {
      const auto raw = std::as_bytes(std::span(tensor.raw_data().data(), tensor.raw_data().size()));
      owned_.emplace_back(raw.begin(), raw.end());
      entry.bytes = owned_.back();
    }
    if (static_cast<std::int64_t>(entry.bytes.size()) != elements * size_bytes(*type)) {
      corrupt("tensor '", tensor.name(), "' has ", entry.bytes.size(), " bytes; its dims want ",
              elements * size_bytes(*type), "; copy the model again");
    }
    if (!tensors_.emplace(tensor.name(), std::move(entry)).second)
      corrupt("tensor '", tensor.name(), "' is there twice");
  }
  for (const onnx::NodeProto& node : proto.graph().node()) {
    if (node.op_type() != "MatMulNBits" || node.input_size() < 4) continue;
    MatMulNBits op;
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.name() == "N") op.n = attribute.i();
      if (attribute.name() == "K") op.k = attribute.i();
      if (attribute.name() == "block_size") op.block = attribute.i();
      if (attribute.name() == "bits" && attribute.i() >= 0 && attribute.i() <= 8)
        op.bits = static_cast<int>(attribute.i());
    }
    if (op.n < 1 || op.k < 1 || op.n > (std::int64_t{1} << 31) || op.k > (std::int64_t{1} << 31) ||
        op.block < 16 || op.block > op.k || op.k % op.block != 0 ||
        (op.bits != 2 && op.bits != 4 && op.bits != 8)) {
      corrupt("node '", node.name(), "': MatMulNBits of N ", op.n, ", K ", op.k, ", ", op.bits,
              " bits, blocks of ", op.block, "; want 2, 4 or 8 bits and blocks of at least 16 that divide K");
    }
    op.blocks = op.k / op.block;
    products_.emplace(node.input(1), op);
  }
}

const OnnxFile::Tensor* OnnxFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::int64_t OnnxFile::bytes() const {
  std::int64_t sum = 0;
  for (const auto& [name, tensor] : tensors_) sum += static_cast<std::int64_t>(tensor.bytes.size());
  return sum;
}

}  // namespace crumb::formats
