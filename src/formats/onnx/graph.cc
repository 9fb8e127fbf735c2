#include "formats/onnx/graph.h"

#include <functional>
#include <numeric>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "formats/onnx/schema.h"
#include "formats/onnx/wire.h"
#include "io/file_writer.h"

namespace crumb::formats {
namespace {

namespace schema = onnx_schema;

constexpr std::string_view kWhere = "formats.onnx";

// Readers map large tensors at page borders and copy others.
std::int64_t aligned(std::int64_t offset, std::int64_t size) {
  const std::int64_t to = size >= 65536 ? 4096 : 64;
  return (offset + to - 1) / to * to;
}

WireWriter value_info(const std::string& name, OnnxType type, const std::vector<OnnxGraph::Dim>& shape) {
  WireWriter dims, tensor, whole, value;
  for (const OnnxGraph::Dim& dim : shape) {
    WireWriter one;
    if (const auto* size = std::get_if<std::int64_t>(&dim))
      one.integer(schema::type::kDimValue, *size);
    else
      one.bytes(schema::type::kDimParam, std::get<std::string>(dim));
    dims.message(schema::type::kDim, one);
  }
  tensor.integer(schema::type::kElemType, static_cast<int>(type));
  tensor.message(schema::type::kShape, dims);
  whole.message(schema::type::kTensor, tensor);
  value.bytes(schema::value_info::kName, name);
  value.message(schema::value_info::kType, whole);
  return value;
}

WireWriter tensor_head(const std::string& name, OnnxType type, const std::vector<std::int64_t>& dims) {
  WireWriter tensor;
  for (const std::int64_t dim : dims) tensor.integer(schema::tensor::kDims, dim);
  tensor.integer(schema::tensor::kDataType, static_cast<int>(type));
  tensor.bytes(schema::tensor::kName, name);
  return tensor;
}

}  // namespace

std::int64_t size_bytes(OnnxType type) noexcept {
  switch (type) {
    case OnnxType::kU8:
      return 1;
    case OnnxType::kF16:
    case OnnxType::kBF16:
      return 2;
    case OnnxType::kF32:
    case OnnxType::kI32:
      return 4;
    case OnnxType::kI64:
      return 8;
  }
  return 0;
}

DType dtype_of(OnnxType type) {
  return type == OnnxType::kF16 ? DType::kF16 : type == OnnxType::kBF16 ? DType::kBF16 : DType::kF32;
}

struct OnnxGraph::Model {
  struct Data {
    std::string name;
    OnnxType type;
    std::vector<std::int64_t> dims;
    std::int64_t offset, size;
    std::function<std::vector<std::byte>()> produce;
  };
  std::string name;
  WireWriter graph;  // all but the tensors of the data file
  std::vector<Data> data;
  std::int64_t bytes = 0;
};

OnnxGraph::OnnxGraph(std::string_view name) : model_(std::make_unique<Model>()) {
  model_->graph.bytes(schema::graph::kName, name);
}
OnnxGraph::~OnnxGraph() = default;

void OnnxGraph::input(const std::string& name, OnnxType type, const std::vector<Dim>& shape) {
  model_->graph.message(schema::graph::kInput, value_info(name, type, shape));
}
void OnnxGraph::output(const std::string& name, OnnxType type, const std::vector<Dim>& shape) {
  model_->graph.message(schema::graph::kOutput, value_info(name, type, shape));
}

std::string OnnxGraph::node(std::string_view op, const std::string& name,
                            const std::vector<std::string>& inputs, const std::vector<Attribute>& attributes,
                            std::string_view domain, const std::vector<std::string>& more_outputs) {
  WireWriter node;
  for (const std::string& input : inputs) node.bytes(schema::node::kInput, input);
  node.bytes(schema::node::kOutput, name);
  for (const std::string& output : more_outputs) node.bytes(schema::node::kOutput, output);
  node.bytes(schema::node::kName, name);
  node.bytes(schema::node::kOpType, op);
  if (!domain.empty()) node.bytes(schema::node::kDomain, domain);
  for (const auto& [key, value] : attributes) {
    WireWriter attribute;
    attribute.bytes(schema::attribute::kName, key);
    if (const auto* integer = std::get_if<std::int64_t>(&value)) {
      attribute.integer(schema::attribute::kInt, *integer);
      attribute.integer(schema::attribute::kType, schema::attribute::kTypeInt);
    } else if (const auto* real = std::get_if<float>(&value)) {
      attribute.real(schema::attribute::kFloat, *real);
      attribute.integer(schema::attribute::kType, schema::attribute::kTypeFloat);
    } else {
      for (const std::int64_t i : std::get<std::vector<std::int64_t>>(value))
        attribute.integer(schema::attribute::kInts, i);
      attribute.integer(schema::attribute::kType, schema::attribute::kTypeInts);
    }
    node.message(schema::node::kAttribute, attribute);
  }
  model_->graph.message(schema::graph::kNode, node);
  return name;
}

std::string OnnxGraph::constant(const std::string& name, const std::vector<std::int64_t>& values,
                                bool scalar) {
  CRUMB_CHECK(!scalar || values.size() == 1);
  std::vector<std::int64_t> dims;
  if (!scalar) dims = {static_cast<std::int64_t>(values.size())};
  WireWriter tensor = tensor_head(name, OnnxType::kI64, dims);
  for (const std::int64_t value : values) tensor.integer(schema::tensor::kInt64Data, value);
  model_->graph.message(schema::graph::kInitializer, tensor);
  return name;
}

void OnnxGraph::empty_default(const std::string& name, OnnxType type,
                              const std::vector<std::int64_t>& shape) {
  CRUMB_CHECK(std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()) == 0);
  WireWriter tensor = tensor_head(name, type, shape);
  tensor.bytes(schema::tensor::kRawData, "");
  model_->graph.message(schema::graph::kInitializer, tensor);
}

std::string OnnxGraph::tensor(const std::string& name, OnnxType type, std::vector<std::int64_t> dims,
                              std::function<std::vector<std::byte>()> produce) {
  const std::int64_t size = std::accumulate(dims.begin(), dims.end(), size_bytes(type), std::multiplies<>());
  const std::int64_t offset = aligned(model_->bytes, size);
  model_->data.push_back({name, type, std::move(dims), offset, size, std::move(produce)});
  model_->bytes = offset + size;
  return name;
}

std::int64_t OnnxGraph::data_bytes() const {
  return model_->bytes;
}

void OnnxGraph::save(const std::filesystem::path& folder, const std::string& file,
                     const std::function<void(std::int64_t)>& done) const {
  WireWriter graph = model_->graph;
  {
    io::FileWriter writer(folder / (file + "_data"));
    std::int64_t at = 0;
    for (const Model::Data& data : model_->data) {
      const std::vector<std::byte> bytes = data.produce();
      if (static_cast<std::int64_t>(bytes.size()) != data.size) {
        fail(ErrorKind::kInvalidArgument, kWhere, data.name, ": ", bytes.size(), " bytes were made; want ",
             data.size);
      }
      const std::vector<std::byte> padding(static_cast<std::size_t>(data.offset - at));
      writer.write(padding);
      writer.write(bytes);
      at = data.offset + data.size;
      WireWriter tensor = tensor_head(data.name, data.type, data.dims);
      const auto entry = [&](std::string_view key, const std::string& value) {
        WireWriter one;
        one.bytes(schema::entry::kKey, key);
        one.bytes(schema::entry::kValue, value);
        tensor.message(schema::tensor::kExternalData, one);
      };
      entry("location", file + "_data");
      entry("offset", std::to_string(data.offset));
      entry("length", std::to_string(data.size));
      tensor.integer(schema::tensor::kDataLocation, schema::tensor::kExternal);
      graph.message(schema::graph::kInitializer, tensor);
      if (done) done(at);
    }
    writer.close();
  }
  WireWriter model;
  model.integer(schema::model::kIrVersion, 8);
  model.bytes(schema::model::kProducerName, "crumb");
  model.message(schema::model::kGraph, graph);
  for (const auto& [domain, version] : {std::pair{"", 17}, std::pair{"com.microsoft", 1}}) {
    WireWriter opset;
    opset.bytes(schema::opset::kDomain, domain);
    opset.integer(schema::opset::kVersion, version);
    model.message(schema::model::kOpsetImport, opset);
  }
  const std::string& text = model.text();
  io::FileWriter writer(folder / file);
  writer.write(std::as_bytes(std::span(text.data(), text.size())));
  writer.close();
}

}  // namespace crumb::formats
