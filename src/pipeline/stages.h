// The models that stand between the stages of a run, and the table that says how good each is.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "formats/hf_output.h"
#include "nn/causal_lm.h"
#include "pipeline/quantize_context.h"

namespace crumb::pipeline {

/// Evaluates the model of a stage ("fp", "rtn", the recipe's last block stage, "e2e_qp") and adds its row to
/// report["stages"]; a row that the journal has is taken from there. `cost` ({"seconds", "peak_rss_bytes"})
/// is that of producing the model; null: the evaluation's own.
void evaluate_stage(QuantizeContext& context, const std::string& stage,
                    const std::function<nn::CausalLm()>& make, const nlohmann::ordered_json& cost = nullptr);

/// The row between "rtn" and the last one: "block_ap", or before E2E-QP the stage that chose codes by more
/// than rounding; none where the written model follows at once.
std::optional<std::string> intermediate_stage(const recipe::Recipe& recipe);
/// The last row, which is measured on the written files: "e2e_qp", "written" after Block-AP, "start" for
/// rounding alone, else the stage that chose or prepared the codes ("gptq", "smoothquant").
std::string final_stage(const recipe::Recipe& recipe);

/// The full-precision model.
nn::CausalLm full_precision(const QuantizeContext& context);
/// Every linear by min-max (or absmax, where the recipe rounds so), nothing trained or transformed, with the recipe's activation quantizers: the
/// baseline of every table.
nn::CausalLm rounded_to_nearest(const QuantizeContext& context);
/// The result of the block stages, packed.
nn::CausalLm packed_model(const QuantizeContext& context);

/// A finished block from the run directory. `scales` of E2E-QP in block and role order replace its own unless
/// empty. Throws Corrupt when the journal does not have it.
formats::PackedBlock final_block(const QuantizeContext& context, std::int64_t index,
                                 const std::vector<at::Tensor>& scales);

}  // namespace crumb::pipeline
