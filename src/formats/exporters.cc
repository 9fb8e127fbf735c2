// The one list of formats that a checkpoint can be written in.
#include "base/error.h"
#include "base/interrupt.h"
#include "formats/block_codes.h"
#include "formats/export/faces.h"
#include "formats/exporter.h"
#include "formats/gguf_export.h"
#include "formats/onnx/onnx_export.h"

namespace crumb::formats {

std::span<const Exporter* const> exporters() {
  static const Exporter* const kExporters[] = {&gptq_exporter(),
                                               &gptq_v1_exporter(),
                                               &auto_round_exporter(),
                                               &compressed_tensors_exporter(),
                                               &compressed_tensors_asym_exporter(),
                                               &awq_exporter(),
                                               &mlx_exporter(),
                                               &gguf_exporter(),
                                               &onnx_exporter(),
                                               &hf_exporter(DType::kF32),
                                               &hf_exporter(DType::kF16),
                                               &hf_exporter(DType::kBF16)};
  return kExporters;
}

std::vector<std::vector<LinearFit>> fits_of(const Checkpoint& source,
                                            std::span<const Exporter* const> formats) {
  std::vector<std::unique_ptr<FitJudge>> judges;
  for (const Exporter* const format : formats) judges.push_back(format->judge(source));
  for (const std::string& linear : block_linears(source.config())) {
    throw_if_interrupted("formats.export");
    const std::optional<quant::QuantizedLinear> codes = codes_of(source, linear);
    for (const auto& judge : judges) judge->add(linear, codes ? &*codes : nullptr);
  }
  std::vector<std::vector<LinearFit>> out;
  for (std::size_t i = 0; i < formats.size(); ++i) {
    out.push_back(judges[i]->finish());
    const std::string reason = formats[i]->unfit_structure(source.config());
    if (reason.empty()) continue;
    for (LinearFit& fit : out.back()) fit = {std::move(fit.linear), "", false, reason};
  }
  return out;
}

std::vector<LinearFit> Exporter::fits(const Checkpoint& source) const {
  const Exporter* const self = this;
  return std::move(fits_of(source, {&self, 1}).front());
}

const Exporter& find_exporter(std::string_view name) {
  std::string known;
  for (const Exporter* exporter : exporters()) {
    if (exporter->name() == name) return *exporter;
    known += cat(known.empty() ? "" : ", ", exporter->name());
  }
  fail(ErrorKind::kInvalidArgument, "formats.find_exporter", "'", name, "': is no format; expected one of ",
       known);
}

}  // namespace crumb::formats
