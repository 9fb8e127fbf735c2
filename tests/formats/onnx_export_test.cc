// A model as an ONNX graph: whole, in order, and the same codes when it is opened again.
#include "formats/onnx/onnx_export.h"

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <fstream>
#include <functional>
#include <set>

#include "formats/export_check.h"
#include "formats/onnx/onnx_file.h"
#include "support/codes_checkpoint.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using test::TinyModel;

quant::AffineSpec spec_of(int bits, std::int64_t group) {
  quant::AffineSpec spec;
  spec.bits = bits;
  spec.group_size = group;
  return spec;
}

struct Exported {
  test::TempDir folder;
  std::unique_ptr<test::CodesCheckpoint> source;
  ExportReport report;
  fs::path out() const { return folder / "out"; }
};

std::unique_ptr<Exported> export_model(const TinyModel& model, const quant::AffineSpec& spec) {
  auto e = std::make_unique<Exported>();
  test::write_tiny_model(e->folder / "float", model);
  e->source = std::make_unique<test::CodesCheckpoint>(
      e->folder / "float", test::random_linears(e->folder / "float", spec, test::Zeros::kAny));
  e->report = test::export_to(onnx_exporter(), *e->source, e->out());
  return e;
}

TinyModel qwen3() {
  TinyModel model;
  model.family = "qwen3";
  model.architecture = "Qwen3ForCausalLM";
  model.qk_norm = true;
  return model;
}
TinyModel qwen2() {
  TinyModel model;
  model.family = "qwen2";
  model.architecture = "Qwen2ForCausalLM";
  model.qkv_bias = true;
  model.tied = true;
  return model;
}

onnx::ModelProto read_proto(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  onnx::ModelProto proto;
  EXPECT_TRUE(proto.ParseFromIstream(&in));
  return proto;
}
void write_proto(const fs::path& file, const onnx::ModelProto& proto) {
  std::ofstream out(file, std::ios::binary);
  ASSERT_TRUE(proto.SerializeToOstream(&out));
}

TEST(OnnxExport, HoldsTheSameCodesAndFloatsWhenOpenedAgain) {
  for (const TinyModel& model : {TinyModel{}, qwen2(), qwen3()}) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const std::int64_t group : {16, 32, 64}) {
        SCOPED_TRACE(::testing::Message() << model.family << " w" << bits << "g" << group);
        const auto e = export_model(model, spec_of(bits, group));
        const ExportCheck check = check_export(*e->source, e->out(), e->report, true);
        EXPECT_EQ(check.faults, std::vector<std::string>{});
        EXPECT_EQ(check.linears, 14);
        EXPECT_TRUE(e->report.lossy.empty());
      }
    }
  }
}

TEST(OnnxExport, ACodeThatChangedIsNoticed) {
  const auto e = export_model({}, spec_of(2, 32));
  onnx::ModelProto proto = read_proto(e->out() / "model.onnx");
  std::int64_t at = -1;
  for (const onnx::TensorProto& tensor : proto.graph().initializer()) {
    if (tensor.name() == "model.layers.1.mlp.up_proj.qweight")
      at = std::stoll(tensor.external_data(1).value());
  }
  ASSERT_GE(at, 0);
  std::fstream data(e->out() / "model.onnx_data", std::ios::binary | std::ios::in | std::ios::out);
  data.seekg(at);
  const char byte = static_cast<char>(data.get());
  data.seekp(at);
  data.put(static_cast<char>(byte ^ 1));
  data.close();
  EXPECT_EQ(check_export(*e->source, e->out(), e->report, true).faults.size(), 1u);
}

TEST(OnnxExport, EveryNodeReadsWhatIsThereBeforeIt) {
  for (const TinyModel& model : {TinyModel{}, qwen2(), qwen3()}) {
    SCOPED_TRACE(model.family);
    const auto e = export_model(model, spec_of(2, 32));
    const onnx::ModelProto proto = read_proto(e->out() / "model.onnx");
    std::set<std::string> known = {""};
    for (const auto& input : proto.graph().input()) known.insert(input.name());
    for (const auto& tensor : proto.graph().initializer()) known.insert(tensor.name());
    std::set<std::string> made;
    for (const auto& node : proto.graph().node()) {
      for (const std::string& input : node.input())
        EXPECT_TRUE(known.contains(input)) << node.name() << " reads " << input;
      for (const std::string& output : node.output()) {
        EXPECT_TRUE(made.insert(output).second) << output << " is made twice";
        known.insert(output);
      }
    }
    for (const auto& output : proto.graph().output())
      EXPECT_TRUE(made.contains(output.name())) << output.name();
    EXPECT_EQ(proto.graph().output_size(), 1 + 2 * 2);
    EXPECT_EQ(proto.graph().input_size(), 2 + 2 * 2);
  }
}

TEST(OnnxExport, ATiedHeadIsTheEmbedding) {
  const auto e = export_model(qwen2(), spec_of(4, 32));
  const OnnxFile file(e->out() / "model.onnx");
  EXPECT_NE(file.find("model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(file.find("lm_head.weight"), nullptr);
}

TEST(OnnxExport, RefusesGroupsThatNoBlockDivides) {
  TinyModel model;
  model.hidden = 40;
  model.intermediate = 80;
  model.head_dim = 10;
  test::TempDir folder;
  test::write_tiny_model(folder / "float", model);
  const test::CodesCheckpoint source(
      folder / "float", test::random_linears(folder / "float", spec_of(2, 40), test::Zeros::kAny));
  test::expect_error(ErrorKind::kUnsupported, {"q_proj", "groups of 40"},
                     [&] { test::export_to(onnx_exporter(), source, folder / "out"); });
}

// ------------------------------------------------------------------------------------------ damaged files

void expect_damage(const std::function<void(onnx::ModelProto&)>& change,
                   std::initializer_list<std::string_view> parts, ErrorKind kind = ErrorKind::kCorrupt) {
  const auto e = export_model({}, spec_of(2, 32));
  onnx::ModelProto proto = read_proto(e->out() / "model.onnx");
  change(proto);
  write_proto(e->out() / "model.onnx", proto);
  test::expect_error(kind, parts, [&] { Checkpoint::open(e->out()); });
}

onnx::TensorProto& tensor_of(onnx::ModelProto& proto, std::string_view name) {
  for (onnx::TensorProto& tensor : *proto.mutable_graph()->mutable_initializer())
    if (tensor.name() == name) return tensor;
  throw std::logic_error("no such tensor");
}

TEST(OnnxFile, RefusesDataOutsideOfItsFolder) {
  expect_damage(
      [](onnx::ModelProto& proto) {
        tensor_of(proto, "model.norm.weight").mutable_external_data(0)->set_value("../secret");
      },
      {"model.norm.weight", "../secret", "beside the model"}, ErrorKind::kUnsupported);
}

TEST(OnnxFile, RefusesOffsetsAndSizesThatDoNotFit) {
  const auto entry = [](int index, const char* value) {
    return [index, value](onnx::ModelProto& proto) {
      tensor_of(proto, "model.norm.weight").mutable_external_data(index)->set_value(value);
    };
  };
  for (const char* offset : {"9000000000000000000", "-1", "x", "18446744073709551616"})
    expect_damage(entry(1, offset), {"model.norm.weight", "copy both again"});
  expect_damage(entry(2, "128"), {"model.norm.weight", "128 bytes", "256"});
  expect_damage(entry(2, "99999999999"), {"model.norm.weight", "99999999999"});
}

TEST(OnnxFile, RefusesDimsThatAreNegativeOrTooLarge) {
  for (const std::int64_t dim : {std::int64_t{-1}, std::int64_t{1} << 62}) {
    expect_damage([dim](onnx::ModelProto& proto) { tensor_of(proto, "model.norm.weight").set_dims(0, dim); },
                  {"model.norm.weight", "dim"});
  }
}

TEST(OnnxFile, RefusesProductsThatItCannotRead) {
  expect_damage(
      [](onnx::ModelProto& proto) {
        for (auto& node : *proto.mutable_graph()->mutable_node()) {
          for (auto& attribute : *node.mutable_attribute())
            if (attribute.name() == "block_size") attribute.set_i(0);
        }
      },
      {"MatMulNBits", "blocks of 0"});
}

TEST(OnnxFile, RefusesAMissingTensorAndATruncatedModel) {
  expect_damage(
      [](onnx::ModelProto& proto) { tensor_of(proto, "model.layers.0.mlp.up_proj.scales").set_name("gone"); },
      {"model.layers.0.mlp.up_proj.scales", "missing"}, ErrorKind::kNotFound);
  const auto e = export_model({}, spec_of(2, 32));
  fs::resize_file(e->out() / "model.onnx", fs::file_size(e->out() / "model.onnx") / 2);
  test::expect_error(ErrorKind::kCorrupt, {"do not parse"}, [&] { Checkpoint::open(e->out()); });
}

TEST(OnnxFile, RefusesATruncatedDataFile) {
  const auto e = export_model({}, spec_of(2, 32));
  const fs::path data = e->out() / "model.onnx_data";
  fs::resize_file(data, fs::file_size(data) - 1);
  test::expect_error(ErrorKind::kCorrupt, {"model.onnx_data has", "copy both again"},
                     [&] { Checkpoint::open(e->out()); });
}

}  // namespace
}  // namespace crumb::formats
