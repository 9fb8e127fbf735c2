// The one list of formats that a checkpoint can be written in.
#include "base/error.h"
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
