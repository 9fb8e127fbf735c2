// The Hugging Face faces, for the list of exporters.cc. docs/formats/support.md says who loads what.
#pragma once
#include "formats/exporter.h"

namespace crumb::formats {

/// "gptq": GPTQ v2, every grid; docs/formats/gptq.md.
const Exporter& gptq_exporter();
/// "gptq-v1": zero points stored as z - 1, symmetric grids only, with scales of either sign.
const Exporter& gptq_v1_exporter();
/// "auto-round": GPTQ v2's tensors without g_idx; docs/formats/auto_round.md.
const Exporter& auto_round_exporter();
/// "compressed-tensors": symmetric, scales of either sign; docs/formats/compressed_tensors.md.
const Exporter& compressed_tensors_exporter();
/// "compressed-tensors-asym": with zero points, which few loaders take: see its note().
const Exporter& compressed_tensors_asym_exporter();
/// "awq": 4 bits, which codes of 2 and 3 bits fit too; docs/formats/awq.md.
const Exporter& awq_exporter();
/// "mlx": docs/formats/mlx.md.
const Exporter& mlx_exporter();
/// "hf", "hf-f16", "hf-bf16": dequantized linears in F32 (exact), F16 or BF16; everything else as it is.
const Exporter& hf_exporter(DType dtype);

/// Any checkpoint with codes as crumb's own directory: GPTQ v2 of any shape that dense words hold,
/// config.json's dtype as it was. `crumb import`.
const Exporter& own_directory_exporter();

}  // namespace crumb::formats
