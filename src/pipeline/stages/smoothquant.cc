#include "methods/smoothquant/smoothquant.h"

#include "methods/transform_sites.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

using methods::Site;
namespace smoothquant = methods::smoothquant;

void run_smoothquant(BlockJob& job) {
  const at::NoGradGuard no_grad;
  const recipe::SmoothQuant& how = job.recipe().smoothquant;
  std::vector<Site> sites = {Site::kAttentionInput, Site::kMlpInput};
  if (how.value_output) sites.push_back(Site::kValueOutput);
  if (how.up_down) sites.push_back(Site::kUpDown);
  const methods::ActivationStatistics statistics = job.statistics();
  nlohmann::ordered_json& row = job.row["smoothquant"];
  for (const Site kind : sites) {
    const methods::TransformSite site =
        methods::transform_site(job.block.config(), kind, methods::Tying::kExact);
    std::vector<at::Tensor> weights;
    for (const model::LinearRole role : site.consumers) weights.push_back(job.block.linear(role).weight);
    const at::Tensor of_inputs =
        methods::largest_per_factor(site, statistics.inputs.at(site.input).abs_max());
    const at::Tensor scales = smoothquant::smoothing_scales(
        of_inputs, methods::largest_per_factor(site, smoothquant::weight_absmax(weights)), how.alpha);
    methods::apply_transform(job.block, site, scales, {});
    row[std::string(methods::to_string(kind))] = {
        {"largest_input_before", of_inputs.max().item<double>()},
        {"largest_input_after", (of_inputs / scales).max().item<double>()}};
  }
  job.transformed = true;
}

}  // namespace crumb::pipeline
