#include "methods/omniquant/let.h"

#include "base/error.h"

namespace crumb::methods::omniquant {

using at::Tensor;

std::vector<TransformSite> let_sites(const model::ModelConfig& config, const LetSettings& settings) {
  constexpr std::string_view kWhere = "methods.let_sites";
  const bool parity = settings.mode == Mode::kParity;
  if (parity && settings.up_down) {
    fail(ErrorKind::kInvalidArgument, kWhere,
         "up_down: set together with parity mode; the authors' code has no such pair. Use the default mode");
  }
  if (settings.shift && config.norm == model::NormKind::kRms) {
    fail(ErrorKind::kUnsupported, kWhere, "shift in ", config.family,
         " blocks: the RMS norms of this family have no bias that could hold -d / s, so no checkpoint can "
         "store "
         "the result; switch shifts off (the authors train none for such models either)");
  }
  if (settings.shift && !(config.attention_bias && config.attention_output_bias && config.mlp_bias)) {
    fail(ErrorKind::kUnsupported, kWhere, "shift in ", config.family,
         " blocks without biases: W d has no place in the linears of this model; switch shifts off");
  }
  if (settings.up_down && config.mlp == model::MlpKind::kRelu) {
    fail(ErrorKind::kUnsupported, kWhere, "up_down in ", config.family,
         " blocks: a ReLU stands between the two, which only positive factors pass, and trained ones may "
         "turn negative; switch up_down off");
  }
  std::vector<TransformSite> sites;
  for (const Site site : kSites) {
    if (site == Site::kUpDown && !settings.up_down) continue;
    sites.push_back(transform_site(config, site, parity ? Tying::kUntied : Tying::kExact));
  }
  return sites;
}

LetParameters start_let(const nn::DecoderBlock& block, const std::vector<TransformSite>& sites,
                        const ActivationStatistics& statistics, const LetSettings& settings) {
  constexpr double kFloor = 1e-5;
  const at::NoGradGuard no_grad;
  LetParameters parameters;
  for (const TransformSite& site : sites) {
    LetPair pair{site, {}, {}};
    if (site.site == Site::kQueryKey) {
      pair.scale = at::ones({site.factors}, block.input_norm.options());
    } else {
      const ChannelStatistics& input = statistics.inputs.at(site.input);
      const std::vector<model::LinearRole> of =
          settings.mode == Mode::kParity ? std::vector{site.representative} : site.consumers;
      const Tensor a = largest_per_factor(site, input.abs_max()).clamp_min(kFloor),
                   w = largest_per_factor(site, column_abs_max(block, of)).clamp_min(kFloor);
      pair.scale = (a.pow(settings.alpha) / w.pow(1 - settings.alpha)).clamp_min_(kFloor);
      if (settings.shift && site.admits_shift) {
        // Channels that share a factor share a shift; with none shared this is the statistic itself.
        const Tensor high = largest_per_factor(site, input.shift),
                     low = -largest_per_factor(site, -input.shift);
        pair.shift = (high + low) / 2;
      }
    }
    parameters.push_back(pair);
  }
  return parameters;
}

void truncate_scales(LetParameters& parameters, Mode mode) {
  constexpr double kSmallest = 1e-2;
  const at::NoGradGuard no_grad;
  for (LetPair& pair : parameters) {
    const Tensor scale = pair.scale.detach();  // shares memory with the leaf
    const Tensor sign = mode == Mode::kParity ? scale.sign() : at::where(scale < 0, -1.0f, 1.0f);
    scale.copy_(at::where(scale.abs() < kSmallest, sign * kSmallest, scale));
  }
}

nn::DecoderBlock transformed(const nn::DecoderBlock& block, const LetParameters& parameters) {
  nn::DecoderBlock out = block;
  for (const LetPair& pair : parameters) apply_transform(out, pair.site, pair.scale, pair.shift);
  return out;
}

}  // namespace crumb::methods::omniquant
