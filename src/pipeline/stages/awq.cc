#include "methods/awq/awq.h"

#include "methods/transform_sites.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

using methods::Site;
using model::LinearRole;
namespace awq = methods::awq;

namespace {

// AWQ's search has a scale for each input channel of o, and no notion of channels that share one.
bool has_value_output(const model::ModelConfig& config) {
  return config.num_attention_heads == config.num_key_value_heads;
}

std::vector<Site> sites_of(const recipe::Awq& how, const model::ModelConfig& config) {
  std::vector<Site> sites = {Site::kAttentionInput};
  if (how.value_output != recipe::Use::kOff && has_value_output(config)) sites.push_back(Site::kValueOutput);
  sites.push_back(Site::kMlpInput);
  if (how.up_down) sites.push_back(Site::kUpDown);
  return sites;
}

}  // namespace

void run_awq(BlockJob& job) {
  const at::NoGradGuard no_grad;
  const recipe::Awq& how = job.recipe().awq;
  const quant::AffineSpec spec = job.recipe().weights.spec();
  const methods::ActivationStatistics statistics = methods::collect_activation_statistics(
      job.block, job.inputs, job.batch(), job.rope, job.context.block_compute, job.context.device);
  auto collected = job.grams(job.block, {true, true, true, true});
  std::array<at::Tensor, 4> grams;  // of the inputs as the transformations so far leave them
  for (std::size_t i = 0; i < grams.size(); ++i) grams[i] = collected[i]->sum();

  nlohmann::ordered_json& row = job.row["awq"];
  for (const Site kind : sites_of(how, job.block.config())) {
    const methods::TransformSite site =
        methods::transform_site(job.block.config(), kind, methods::Tying::kExact);
    std::vector<at::Tensor> weights;
    for (const LinearRole role : site.consumers) weights.push_back(job.block.linear(role).weight);
    const awq::ScaleSearchResult found = awq::search_scales(
        weights, statistics.inputs.at(site.input).mean_abs, grams[site.input],
        collected[site.input]->tokens(), spec, {.steps = how.steps, .duo = how.duo, .scale_f16 = true});
    const at::Tensor scales = found.scales.to(job.context.device);
    methods::apply_transform(job.block, site, scales, {});
    grams[site.input] = methods::gram_of_divided(grams[site.input], scales);
    row[std::string(methods::to_string(kind))] = {
        {"ratio", found.ratio}, {"loss", found.losses[static_cast<std::size_t>(found.best)]}};
  }
  job.transformed = true;
  if (job.recipe().chooser() != recipe::Stage::kAwq) return;

  methods::LinearCodes codes;
  for (const LinearRole role : job.block.roles()) {
    const at::Tensor& w = job.block.linear(role).weight;
    at::Tensor limits;  // q and k feed a product of each other, which the error of one linear says nothing of
    if (how.clip && role != LinearRole::kQ && role != LinearRole::kK) {
      limits =
          awq::search_clip(w, grams[nn::input_of(role)], spec,
                           {.steps = how.clip_steps, .max_shrink = how.clip_max_shrink, .scale_f16 = true});
    }
    codes[static_cast<std::size_t>(role)] = awq::round_to_nearest(w, limits, spec, /*scale_f16=*/true);
  }
  job.codes = std::move(codes);
}

}  // namespace crumb::pipeline
