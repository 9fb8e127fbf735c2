#include "pipeline/output_stage.h"

#include "formats/hf_output.h"
#include "io/atomic_output.h"
#include "pipeline/load_model.h"
#include "pipeline/model_card.h"
#include "pipeline/stages.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;

void write_output(QuantizeContext& c, const std::vector<at::Tensor>& scales, const Meter& total) {
  remove_abandoned_output(c.output);
  io::AtomicDirectory output(c.request.output);
  formats::HfOutputOptions options;
  options.spec = c.recipe.weights.stored_spec();
  if (options.spec.bits != c.recipe.weights.bits) options.weight_bits = c.recipe.weights.bits;
  if (c.recipe.activations.on()) options.activations = c.recipe.activations.scheme();
  options.shard_bytes = c.recipe.output.shard_bytes;
  options.head_bits = c.recipe.output.head_bits;
  if (c.checkpoint->kind() == formats::CheckpointKind::kGguf && c.tokenizer != nullptr)
    options.texts = data::tokenizer_files(*c.tokenizer);
  const formats::HfOutputReport written = formats::write_hf_gptq(
      *c.checkpoint, output.path(), options, [&](std::int64_t i) { return final_block(c, i, scales); });
  c.report["output"] = {{"tensor_bytes", written.tensor_bytes},
                        {"packed_linear_bytes", written.packed_linear_bytes},
                        {"file_bytes", written.file_bytes},
                        {"shards", written.shards},
                        {"bits_per_weight",
                         8.0 * static_cast<double>(written.tensor_bytes) / static_cast<double>(c.parameters)},
                        {"bits_per_linear_weight", written.bits_per_linear_weight}};
  // The last figure is that of the files: they are opened again and evaluated as a user would.
  const bool end_to_end = c.recipe.has(recipe::Stage::kE2eQp);
  const std::optional<std::string> intermediate = intermediate_stage(c.recipe);
  const ordered_json cost = end_to_end     ? total_cost(ordered_json::array({c.report["e2e_qp"]}))
                            : intermediate ? ordered_json(nullptr)
                                           : c.report["block_stages"];
  evaluate_stage(
      c, final_stage(c.recipe),
      [&] {
        return load_causal_lm(*formats::Checkpoint::open(output.path()), c.eval_compute, c.device,
                              Residency::kAuto);
      },
      cost);
  for (auto& row : c.report["stages"]) {
    if (intermediate && row["stage"] == *intermediate) row.update(c.report["block_stages"]);
  }
  c.report["total"] = total.finish();
  c.report["total"]["resumed"] = c.run->resumed();
  io::write_text_atomically(output.path() / "README.md", model_card(c.report));
  io::write_text_atomically(output.path() / "crumb_report.json", c.report.dump(1) + "\n");
  output.commit();
}

}  // namespace crumb::pipeline
