// A directory with model.onnx as a checkpoint: what onnx_export.cc wrote, read back.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/half.h"
#include "formats/checkpoint_readers.h"
#include "formats/companions.h"
#include "formats/onnx/onnx_file.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWhere = "formats.checkpoint";

class OnnxCheckpoint final : public Checkpoint {
 public:
  explicit OnnxCheckpoint(const fs::path& folder)
      : path_(folder),
        config_text_(io::read_text_file(folder / "config.json")),
        file_(folder / "model.onnx") {
    const std::string subject = (folder / "config.json").string();
    config_ = model::parse_hf_config(io::parse_json(config_text_, subject), subject);
    if (file_.find(model::kEmbeddingName) == nullptr) {
      fail(ErrorKind::kUnsupported, kWhere, folder.string(), ": model.onnx has no tensor '",
           model::kEmbeddingName,
           "'; crumb reads the ONNX models that it wrote, whose tensors have their Hugging Face names");
    }
  }

  CheckpointKind kind() const override { return CheckpointKind::kPacked; }
  const fs::path& path() const override { return path_; }
  const model::ModelConfig& config() const override { return config_; }
  std::string config_json() const override { return config_text_; }
  bool has(std::string_view name) const override { return file_.find(name) != nullptr; }
  std::vector<std::int64_t> shape(std::string_view name) const override { return at(name).dims; }
  DType float_dtype(std::string_view name) const override { return dtype_of(at(name).type); }

  std::vector<float> read_f32(std::string_view name) const override {
    const OnnxFile::Tensor& tensor = at(name);
    if (tensor.type != OnnxType::kF32 && tensor.type != OnnxType::kF16 && tensor.type != OnnxType::kBF16) {
      fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": tensor '", name, "' holds integers; want floats");
    }
    const DType dtype = dtype_of(tensor.type);
    std::vector<float> values(tensor.bytes.size() / static_cast<std::size_t>(size_bytes(dtype)));
    io::convert_to_f32(tensor.bytes, dtype, values);
    check_finite(values, path_.string(), name);
    return values;
  }

  std::optional<quant::QuantizedLinear> read_packed(std::string_view linear) const override {
    const MatMulNBits* op = product(linear);
    if (op == nullptr) return std::nullopt;
    const std::string name(linear);
    return unpack_matmul_nbits(*op, at(name + ".qweight").bytes, at(name + ".scales").bytes,
                               at(name + ".qzeros").bytes, linear);
  }
  std::optional<quant::AffineSpec> packed_spec() const override {
    return packed_spec_of(model::linear_name(0, model::LinearRole::kQ));
  }
  std::optional<quant::AffineSpec> packed_spec_of(std::string_view linear) const override {
    const MatMulNBits* op = product(linear);
    if (op == nullptr) return std::nullopt;
    quant::AffineSpec spec;
    spec.bits = op->bits;
    spec.group_size = op->block;
    spec.grid = quant::Grid::kAsym;
    return spec;
  }
  bool scales_fit_f16(std::string_view linear) const override {
    const std::span<const std::byte> bytes = at(std::string(linear) + ".scales").bytes;
    std::vector<float> values(bytes.size() / sizeof(float));
    io::convert_to_f32(bytes, DType::kF32, values);
    return std::all_of(values.begin(), values.end(), [](float s) { return round_to_f16(s) == s; });
  }
  bool check_codes(const std::string& linear, std::int64_t n, std::int64_t k) const override {
    const MatMulNBits* op = product(linear);
    if (op == nullptr) return false;
    const auto want = [&](const char* part, OnnxType type, const std::vector<std::int64_t>& dims) {
      const OnnxFile::Tensor& tensor = at(linear + part);
      if (tensor.type != type || tensor.dims != dims) {
        fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": tensor '", linear, part, "' has shape ",
             shape_string(tensor.dims), " and type ", static_cast<int>(tensor.type), "; want ",
             shape_string(dims), " and ", static_cast<int>(type), " (ONNX's numbers)");
      }
    };
    if (op->n != n || op->k != k) {
      fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": '", linear, "' multiplies [", op->n, ", ", op->k,
           "]; the configuration promises [", n, ", ", k, "]; config.json may be another model's");
    }
    want(".qweight", OnnxType::kU8, {n, op->blocks, op->block * op->bits / 8});
    want(".scales", OnnxType::kF32, {n, op->blocks});
    want(".qzeros", OnnxType::kU8, {n, matmul_nbits_zero_bytes(*op)});
    return true;
  }

  std::int64_t tensor_bytes() const override { return file_.bytes(); }
  std::string describe() const override {
    const auto spec = packed_spec();
    return cat("ONNX MatMulNBits", spec ? " " + quant::scheme_name(*spec) : std::string());
  }
  std::vector<fs::path> companion_files() const override { return companions_in(path_); }

 private:
  const OnnxFile::Tensor& at(std::string_view name) const {
    const OnnxFile::Tensor* tensor = file_.find(name);
    if (tensor == nullptr)
      fail(ErrorKind::kNotFound, kWhere, path_.string(), ": tensor '", name,
           "' is missing; copy the model again");
    return *tensor;
  }
  const MatMulNBits* product(std::string_view linear) const {
    const auto found = file_.products().find(std::string(linear) + ".qweight");
    return found == file_.products().end() ? nullptr : &found->second;
  }

  fs::path path_;
  std::string config_text_;
  OnnxFile file_;
  model::ModelConfig config_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_onnx_directory(const fs::path& folder) {
  return std::make_unique<OnnxCheckpoint>(folder);
}

}  // namespace crumb::formats
