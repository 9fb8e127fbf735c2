#include "formats/onnx/onnx_export.h"

#include <memory>

#include "base/error.h"
#include "formats/companions.h"
#include "formats/export/directory.h"
#include "formats/export/refusal.h"
#include "formats/float_parts.h"
#include "formats/onnx/decoder.h"
#include "io/atomic_output.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/family.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;

OnnxType onnx_type(DType dtype) {
  return dtype == DType::kF16 ? OnnxType::kF16 : dtype == DType::kBF16 ? OnnxType::kBF16 : OnnxType::kF32;
}

MatMulNBitsFit floats_do_not_fit() {
  return {{}, "holds floats; quantize the model first"};
}

MatMulNBitsFit fit_of(const Checkpoint& source, const std::string& linear, std::int64_t n, std::int64_t k) {
  const auto spec = spec_of_codes(source, linear);
  return !spec ? floats_do_not_fit() : fit_matmul_nbits(n, k, *spec);
}

class OnnxJudge final : public FitJudge {
 public:
  void add(const std::string& linear, const quant::QuantizedLinear* codes) override {
    const MatMulNBitsFit fit =
        codes != nullptr ? fit_matmul_nbits(codes->n, codes->k, codes->spec) : floats_do_not_fit();
    if (fit.op)
      fits_.push_back(
          {linear, cat("MatMulNBits ", fit.op->bits, " bits, blocks of ", fit.op->block), true, ""});
    else
      fits_.push_back({linear, "", false, fit.reason});
  }
  std::vector<LinearFit> finish() override { return std::move(fits_); }

 private:
  std::vector<LinearFit> fits_;
};

class OnnxExporter final : public Exporter {
 public:
  std::string_view name() const override { return "onnx"; }
  std::string_view clients() const override { return "ONNX Runtime"; }
  bool writes_directory() const override { return true; }

  std::unique_ptr<FitJudge> judge(const Checkpoint&) const override { return std::make_unique<OnnxJudge>(); }

  ExportReport write(const Checkpoint& source, const fs::path& output,
                     const ExportOptions& options) const override {
    const model::ModelConfig& config = source.config();
    std::vector<LinearFit> unfit;
    std::size_t linears = 0;
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
      for (const model::LinearRole role : model::linear_roles(config)) {
        const std::string linear = model::linear_name(i, role);
        const auto [n, k] = model::linear_shape(config, role);
        const MatMulNBitsFit fit = fit_of(source, linear, n, k);
        ++linears;
        if (!fit.op) unfit.push_back({linear, "", false, fit.reason});
      }
    }
    refuse_unfit(source, name(), unfit, linears, /*nowhere=*/true);
    OnnxGraph graph("model");
    add_decoder(graph, config, config.max_position_embeddings, tensors_of(source));
    io::check_free_space(output, graph.data_bytes() + (std::int64_t{64} << 20));
    graph.save(output, "model.onnx", [&](std::int64_t done) {
      if (options.progress) options.progress(done, graph.data_bytes());
    });
    io::write_text_atomically(output / "config.json", ConfigText(source.config_json()).text());
    write_companions(source, output, options.texts);
    ExportReport report;
    report.tensor_bytes = graph.data_bytes();
    report.shards = 1;
    for (const auto& entry : fs::directory_iterator(output))
      report.file_bytes += static_cast<std::int64_t>(fs::file_size(entry.path()));
    return report;
  }

 private:
  static DecoderTensors tensors_of(const Checkpoint& source) {
    DecoderTensors tensors;
    tensors.linear = [&source](const std::string& linear, std::int64_t n, std::int64_t k) {
      return *fit_of(source, linear, n, k).op;
    };
    // The three parts of a linear follow each other: it is read once.
    struct Last {
      std::string name;
      quant::QuantizedLinear linear;
    };
    tensors.linear_part = [&source, last = std::make_shared<Last>()](const std::string& name,
                                                                     const MatMulNBits& op, char part) {
      if (last->name != name) *last = {name, codes_of(source, name).value()};
      return part == 'q'   ? matmul_nbits_codes(op, last->linear)
             : part == 's' ? matmul_nbits_scales(op, last->linear)
                           : matmul_nbits_zeros(op, last->linear);
    };
    tensors.float_type = [&source](const std::string& name) { return onnx_type(source.float_dtype(name)); };
    tensors.floats = [&source](const std::string& name, OnnxType type) {
      return float_bytes(source, name, dtype_of(type));
    };
    return tensors;
  }
};

}  // namespace

const Exporter& onnx_exporter() {
  static const OnnxExporter kExporter;
  return kExporter;
}

}  // namespace crumb::formats
