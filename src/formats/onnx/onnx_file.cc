#include "formats/onnx/onnx_file.h"

#include <charconv>
#include <optional>

#include "base/error.h"
#include "formats/onnx/schema.h"
#include "formats/onnx/wire.h"

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

struct RawTensor {
  std::string name, location;
  int type = 0;
  std::vector<std::int64_t> dims;
  bool external = false;
  std::int64_t offset = 0, length = -1;
  std::optional<std::string_view> raw;
};

// One value, or several packed into bytes.
template <class Use>
bool for_integers(const WireReader& field, const Use& use) {
  if (field.bytes().data() == nullptr) {
    use(field.integer());
    return true;
  }
  // Packed: varints without tags.
  std::string_view rest = field.bytes();
  while (!rest.empty()) {
    std::uint64_t value = 0;
    if (!take_varint(rest, value)) return false;
    use(static_cast<std::int64_t>(value));
  }
  return true;
}

bool read_tensor(std::string_view message, RawTensor& out) {
  namespace tensor = onnx_schema::tensor;
  bool fine = true;
  WireReader field(message);
  while (field.next()) {
    switch (field.field()) {
      case tensor::kDims:
        fine = fine && for_integers(field, [&](std::int64_t dim) { out.dims.push_back(dim); });
        break;
      case tensor::kDataType:
        out.type = static_cast<int>(field.integer());
        break;
      case tensor::kName:
        out.name = field.bytes();
        break;
      case tensor::kRawData:
        out.raw = field.bytes();
        break;
      case tensor::kDataLocation:
        out.external = field.integer() == tensor::kExternal;
        break;
      case tensor::kExternalData: {
        std::string_view key, value;
        WireReader entry(field.bytes());
        while (entry.next()) {
          if (entry.field() == onnx_schema::entry::kKey) key = entry.bytes();
          if (entry.field() == onnx_schema::entry::kValue) value = entry.bytes();
        }
        fine = fine && entry.ok();
        if (key == "location") out.location = value;
        if (key == "offset") out.offset = number(value);
        if (key == "length") out.length = number(value);
        break;
      }
      default:
        break;
    }
  }
  return fine && field.ok();
}

struct RawNode {
  std::string name, op;
  std::vector<std::string> inputs;
  MatMulNBits attributes;
};

bool read_node(std::string_view message, RawNode& out) {
  namespace node = onnx_schema::node;
  bool fine = true;
  WireReader field(message);
  while (field.next()) {
    if (field.field() == node::kName) out.name = field.bytes();
    if (field.field() == node::kOpType) out.op = field.bytes();
    if (field.field() == node::kInput) out.inputs.emplace_back(field.bytes());
    if (field.field() != node::kAttribute) continue;
    std::string_view key;
    std::int64_t value = 0;
    WireReader attribute(field.bytes());
    while (attribute.next()) {
      if (attribute.field() == onnx_schema::attribute::kName) key = attribute.bytes();
      if (attribute.field() == onnx_schema::attribute::kInt) value = attribute.integer();
    }
    fine = fine && attribute.ok();
    if (key == "N") out.attributes.n = value;
    if (key == "K") out.attributes.k = value;
    if (key == "block_size") out.attributes.block = value;
    if (key == "bits" && value >= 0 && value <= 8) out.attributes.bits = static_cast<int>(value);
  }
  return fine && field.ok();
}

}  // namespace

OnnxFile::OnnxFile(const std::filesystem::path& file) : path_(file), model_(file) {
  const std::span<const std::byte> all = model_.bytes();
  WireReader model({reinterpret_cast<const char*>(all.data()), all.size()});
  bool fine = true;
  while (model.next()) {
    if (model.field() != onnx_schema::model::kGraph) continue;
    WireReader graph(model.bytes());
    while (graph.next()) {
      if (graph.field() == onnx_schema::graph::kInitializer) fine = add_tensor(graph.bytes()) && fine;
      if (graph.field() == onnx_schema::graph::kNode) fine = add_node(graph.bytes()) && fine;
    }
    fine = fine && graph.ok();
  }
  if (!fine || !model.ok() || all.empty()) corrupt("no ONNX model: its messages do not parse; copy it again");
}

template <class... What>
void OnnxFile::corrupt(const What&... what) const {
  fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": ", what...);
}

std::span<const std::byte> OnnxFile::external(const std::string& name, const std::string& location,
                                              std::int64_t offset, std::int64_t length) {
  if (location.empty() || location == "." || location == ".." ||
      location.find_first_of("/\\") != std::string::npos || location.find('\0') != std::string::npos) {
    fail(ErrorKind::kUnsupported, kWhere, path_.string(), ": tensor '", name, "' lies in '", location,
         "'; want the name of a file beside the model");
  }
  auto found = data_.find(location);
  if (found == data_.end())
    found = data_.emplace(location, io::MappedFile(path_.parent_path() / location)).first;
  const std::span<const std::byte> all = found->second.bytes();
  const auto size = static_cast<std::int64_t>(all.size());
  if (offset < 0 || length < 0 || offset > size || length > size - offset) {
    corrupt("tensor '", name, "' takes ", length, " bytes from ", offset, " on; ", location, " has ", size,
            "; copy both again");
  }
  return all.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length));
}

bool OnnxFile::add_tensor(std::string_view message) {
  RawTensor raw;
  if (!read_tensor(message, raw)) return false;
  const auto type = type_of(raw.type);
  if (!type) return true;
  std::int64_t elements = 1;
  for (const std::int64_t dim : raw.dims) {
    if (dim < 0 || (dim > 0 && elements > kMostElements / dim))
      corrupt("tensor '", raw.name, "' has a dim of ", dim, "; want sizes whose product is below 2^48");
    elements *= dim;
  }
  if (!raw.external && !raw.raw) return true;  // values spelled out: shapes, axes
  Tensor entry{*type, raw.dims, {}};
  entry.bytes = raw.external ? external(raw.name, raw.location, raw.offset, raw.length)
                             : std::as_bytes(std::span(raw.raw->data(), raw.raw->size()));
  if (static_cast<std::int64_t>(entry.bytes.size()) != elements * size_bytes(*type)) {
    corrupt("tensor '", raw.name, "' has ", entry.bytes.size(), " bytes; its dims want ",
            elements * size_bytes(*type), "; copy the model again");
  }
  if (!tensors_.emplace(raw.name, std::move(entry)).second) corrupt("tensor '", raw.name, "' is there twice");
  return true;
}

bool OnnxFile::add_node(std::string_view message) {
  RawNode node;
  if (!read_node(message, node)) return false;
  if (node.op != "MatMulNBits" || node.inputs.size() < 4) return true;
  MatMulNBits& op = node.attributes;
  if (op.n < 1 || op.k < 1 || op.n > (std::int64_t{1} << 31) || op.k > (std::int64_t{1} << 31) ||
      op.block < 16 || op.block > op.k || op.k % op.block != 0 ||
      (op.bits != 2 && op.bits != 4 && op.bits != 8)) {
    corrupt("node '", node.name, "': MatMulNBits of N ", op.n, ", K ", op.k, ", ", op.bits,
            " bits, blocks of ", op.block, "; want 2, 4 or 8 bits and blocks of at least 16 that divide K");
  }
  op.blocks = op.k / op.block;
  products_.emplace(node.inputs[1], op);
  return true;
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
