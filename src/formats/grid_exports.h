// Which formats hold a grid without loss, whatever the weights: for lists of recipes.
#pragma once
#include <string>
#include <vector>

#include "quant/spec.h"

namespace crumb::formats {

/// Names of the exporters that store every linear of a model on this grid exactly, in the order of lists.
/// Found out, not listed: each is asked about a block whose codes and zero points are any that the grid
/// allows. Linears of a real model may still have shapes that a format does not take (`crumb export --list`).
std::vector<std::string> lossless_exports(const quant::AffineSpec& spec);

}  // namespace crumb::formats
