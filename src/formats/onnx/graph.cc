#include "formats/onnx/graph.h"

#include <onnx/onnx_pb.h>

#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "io/file_writer.h"

namespace crumb::formats {
namespace {

constexpr std::string_view kWhere = "formats.onnx";

// Readers map large tensors at page borders and copy others.
std::int64_t aligned(std::int64_t offset, std::int64_t size) {
  const std::int64_t to = size >= 65536 ? 4096 : 64;
  return (offset + to - 1) / to * to;
}

void set_shape(onnx::ValueInfoProto& value, const std::string& name, OnnxType type,
               const std::vector<OnnxGraph::Dim>& shape) {
  value.set_name(name);
  auto* tensor = value.mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(static_cast<int>(type));
  tensor->mutable_shape();
  for (const OnnxGraph::Dim& dim : shape) {
    auto* to = tensor->mutable_shape()->add_dim();
    if (const auto* size = std::get_if<std::int64_t>(&dim))
      to->set_dim_value(*size);
    else
      to->set_dim_param(std::get<std::string>(dim));
  }
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

struct OnnxGraph::Model {
  struct Data {
    int initializer;
    std::int64_t offset, size;
    std::function<std::vector<std::byte>()> produce;
  };
  onnx::ModelProto proto;
  std::vector<Data> data;
  std::int64_t bytes = 0;
};

OnnxGraph::OnnxGraph(std::string_view name) : model_(std::make_unique<Model>()) {
  onnx::ModelProto& proto = model_->proto;
  proto.set_ir_version(8);
  proto.set_producer_name("crumb");
  proto.mutable_graph()->set_name(std::string(name));
  const auto opset = [&](const char* domain, int version) {
    auto* import = proto.add_opset_import();
    import->set_domain(domain);
    import->set_version(version);
  };
  opset("", 17);
  opset("com.microsoft", 1);
}
OnnxGraph::~OnnxGraph() = default;

void OnnxGraph::input(const std::string& name, OnnxType type, const std::vector<Dim>& shape) {
  set_shape(*model_->proto.mutable_graph()->add_input(), name, type, shape);
}
void OnnxGraph::output(const std::string& name, OnnxType type, const std::vector<Dim>& shape) {
  set_shape(*model_->proto.mutable_graph()->add_output(), name, type, shape);
}

std::string OnnxGraph::node(std::string_view op, const std::string& name,
                            const std::vector<std::string>& inputs, const std::vector<Attribute>& attributes,
                            std::string_view domain, const std::vector<std::string>& more_outputs) {
  onnx::NodeProto& node = *model_->proto.mutable_graph()->add_node();
  node.set_op_type(std::string(op));
  node.set_name(name);
  if (!domain.empty()) node.set_domain(std::string(domain));
  for (const std::string& input : inputs) node.add_input(input);
  node.add_output(name);
  for (const std::string& output : more_outputs) node.add_output(output);
  for (const auto& [key, value] : attributes) {
    onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(key);
    if (const auto* integer = std::get_if<std::int64_t>(&value)) {
      attribute.set_type(onnx::AttributeProto::INT);
      attribute.set_i(*integer);
    } else if (const auto* real = std::get_if<float>(&value)) {
      attribute.set_type(onnx::AttributeProto::FLOAT);
      attribute.set_f(*real);
    } else {
      attribute.set_type(onnx::AttributeProto::INTS);
      for (const std::int64_t i : std::get<std::vector<std::int64_t>>(value)) attribute.add_ints(i);
    }
  }
  return name;
}

std::string OnnxGraph::constant(const std::string& name, const std::vector<std::int64_t>& values,
                                bool scalar) {
  CRUMB_CHECK(!scalar || values.size() == 1);
  onnx::TensorProto& tensor = *model_->proto.mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(static_cast<int>(OnnxType::kI64));
  if (!scalar) tensor.add_dims(static_cast<std::int64_t>(values.size()));
  for (const std::int64_t value : values) tensor.add_int64_data(value);
  return name;
}

void OnnxGraph::empty_default(const std::string& name, OnnxType type,
                              const std::vector<std::int64_t>& shape) {
  CRUMB_CHECK(std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()) == 0);
  onnx::TensorProto& tensor = *model_->proto.mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(static_cast<int>(type));
  for (const std::int64_t dim : shape) tensor.add_dims(dim);
  tensor.set_raw_data("");
}

std::string OnnxGraph::tensor(const std::string& name, OnnxType type, std::vector<std::int64_t> dims,
                              std::function<std::vector<std::byte>()> produce) {
  onnx::GraphProto& graph = *model_->proto.mutable_graph();
  const std::int64_t size = std::accumulate(dims.begin(), dims.end(), size_bytes(type), std::multiplies<>());
  const std::int64_t offset = aligned(model_->bytes, size);
  model_->data.push_back({graph.initializer_size(), offset, size, std::move(produce)});
  model_->bytes = offset + size;
  onnx::TensorProto& tensor = *graph.add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(static_cast<int>(type));
  for (const std::int64_t dim : dims) tensor.add_dims(dim);
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto entry = [&](const char* key, const std::string& value) {
    auto* to = tensor.add_external_data();
    to->set_key(key);
    to->set_value(value);
  };
  entry("location", "");  // save() knows it
  entry("offset", std::to_string(offset));
  entry("length", std::to_string(size));
  return name;
}

std::int64_t OnnxGraph::data_bytes() const {
  return model_->bytes;
}

void OnnxGraph::save(const std::filesystem::path& folder, const std::string& file,
                     const std::function<void(std::int64_t)>& done) const {
  onnx::ModelProto& proto = model_->proto;
  {
    io::FileWriter writer(folder / (file + "_data"));
    std::int64_t at = 0;
    for (const Model::Data& data : model_->data) {
      onnx::TensorProto& tensor = *proto.mutable_graph()->mutable_initializer(data.initializer);
      tensor.mutable_external_data(0)->set_value(file + "_data");
      const std::vector<std::byte> bytes = data.produce();
      if (static_cast<std::int64_t>(bytes.size()) != data.size) {
        fail(ErrorKind::kInvalidArgument, kWhere, tensor.name(), ": ", bytes.size(),
             " bytes were made; want ", data.size);
      }
      const std::vector<std::byte> padding(static_cast<std::size_t>(data.offset - at));
      writer.write(padding);
      writer.write(bytes);
      at = data.offset + data.size;
      if (done) done(at);
    }
    writer.close();
  }
  const std::string text = proto.SerializeAsString();
  io::FileWriter writer(folder / file);
  writer.write(std::as_bytes(std::span(text.data(), text.size())));
  writer.close();
}

}  // namespace crumb::formats
