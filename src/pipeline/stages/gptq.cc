#include "methods/gptq/gptq.h"

#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

using model::LinearRole;
namespace gptq = methods::gptq;

namespace {

gptq::RangeRule range_rule(recipe::RangeRule rule) {
  switch (rule) {
    case recipe::RangeRule::kMinMax:
      return gptq::RangeRule::kMinMax;
    case recipe::RangeRule::kErrorSearch:
      return gptq::RangeRule::kErrorSearch;
    case recipe::RangeRule::kClipSearch:
      return gptq::RangeRule::kClipSearch;
  }
  return gptq::RangeRule::kMinMax;
}

gptq::Options options_of(const recipe::Recipe& r) {
  gptq::Options options;
  options.spec = r.weights.spec();
  options.block_size = r.gptq.block_size;
  options.damping = r.gptq.damping;
  options.act_order = r.gptq.act_order;
  options.static_groups = r.gptq.static_groups;
  options.range.rule = range_rule(r.gptq.range);
  return options;
}

}  // namespace

void run_gptq(BlockJob& job) {
  const at::NoGradGuard no_grad;
  const gptq::Options options = options_of(job.recipe());
  std::array<std::vector<LinearRole>, 4> linears;  // those that share an input are quantized together
  for (const LinearRole role : job.block.roles()) linears[nn::input_of(role)].push_back(role);
  const bool sequential = job.recipe().gptq.sequential;
  nn::DecoderBlock so_far = job.block;  // with w_hat where there is one
  methods::LinearCodes codes;
  nlohmann::ordered_json& row = job.row["gptq"];
  std::array<std::optional<methods::Gram>, 4> grams;
  if (!sequential) grams = job.grams(job.block, {true, true, true, true});
  for (std::size_t i = 0; i < linears.size(); ++i) {
    if (sequential) grams = job.grams(so_far, {i == 0, i == 1, i == 2, i == 3});
    const at::Tensor hessian = grams[i]->hessian();
    for (const LinearRole role : linears[i]) {
      gptq::Result result = gptq::quantize(job.block.linear(role).weight, hessian, options);
      row[std::string(model::hf_name(role))] = {{"error", result.error}, {"damping", result.damping}};
      so_far.linear(role).set_dequantized(result.linear, job.context.device);
      codes[static_cast<std::size_t>(role)] = std::move(result.linear);
    }
    grams[i].reset();
  }
  job.codes = std::move(codes);
}

}  // namespace crumb::pipeline
