#include "base/error.h"
#include "methods/transform_sites.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

using methods::Site;
using recipe::Stage;

void check_structure(const recipe::Recipe& recipe, const model::ModelConfig& config) {
  const auto admit = [&](Site site) { methods::transform_site(config, site, methods::Tying::kExact); };
  if (recipe.has(Stage::kOmniQuant)) methods::omniquant::check_settings(omniquant_settings(recipe), config);
  if (recipe.has(Stage::kSmoothQuant)) {
    admit(Site::kAttentionInput);
    admit(Site::kMlpInput);
    if (recipe.smoothquant.value_output) admit(Site::kValueOutput);
    if (recipe.smoothquant.up_down) admit(Site::kUpDown);
  }
  if (recipe.has(Stage::kAwq) && recipe.awq.value_output == recipe::Use::kOn &&
      config.num_attention_heads != config.num_key_value_heads) {
    fail(ErrorKind::kUnsupported, "pipeline.awq", "awq.value_output on, in ", config.family, " blocks with ",
         config.num_attention_heads, " query heads on ", config.num_key_value_heads,
         " key/value heads: several columns of o read one row of v, and AWQ's search gives each column a "
         "scale "
         "of its own; set it to auto or off");
  }
}

}  // namespace crumb::pipeline
