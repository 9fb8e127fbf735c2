// Learnable equivalent transformation: OmniQuant, arXiv:2308.13137 §3.3; docs/methods/omniquant.md.
#pragma once
#include <vector>

#include "methods/activation_statistics.h"
#include "methods/omniquant/lwc.h"
#include "methods/transform_sites.h"

namespace crumb::methods::omniquant {

struct LetSettings {
  Mode mode = Mode::kDefault;  // kParity: q/k factors untied, and the start from one linear of each site
  double alpha = 0.5;          // the start: activations against weights, as SmoothQuant's
  bool up_down = false;        // also the site up -> down, which the authors leave out; kDefault only
  bool shift = false;          // also shifts; needs norms that have a bias
};

/// Trained numbers of one site: scale [F] f32, shift [F] f32 or undefined (no shift).
struct LetPair {
  TransformSite site;
  at::Tensor scale, shift;
};
/// In the order in which they are applied.
using LetParameters = std::vector<LetPair>;

/// The sites of a block. Throws Unsupported, with the reason, when the structure does not admit one (parity
/// mode and grouped key/value heads or q/k norms) or norms cannot hold shifts; InvalidArgument for up_down in
/// kParity.
std::vector<TransformSite> let_sites(const model::ModelConfig& config, const LetSettings& settings);

/// The start: scale = max(a^alpha / w^(1 - alpha), 1e-5) with a = max |input| and w = max |W| of each
/// channel, both at least 1e-5 (SmoothQuant's rule); 1 at kQueryKey; shifts at the input's shift statistic,
/// or undefined. w is that of all consumers in kDefault, of the representative linear in kParity.
LetParameters start_let(const nn::DecoderBlock& block, const std::vector<TransformSite>& sites,
                        const ActivationStatistics& statistics, const LetSettings& settings);

/// |scale| < 1e-2 becomes 1e-2 with the same sign, in place, out of sight of autograd. An exact 0 stays in
/// kParity (and divides by zero, as in the authors' code) and becomes 1e-2 in kDefault.
void truncate_scales(LetParameters& parameters, Mode mode);

/// The float block with all transformations applied; its tensors are part of the autograd graph of the
/// parameters. `block` stays as it is.
nn::DecoderBlock transformed(const nn::DecoderBlock& block, const LetParameters& parameters);

}  // namespace crumb::methods::omniquant
