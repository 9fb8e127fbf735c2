// How the commands that write text choose their tokens.
#pragma once
#include <CLI/CLI.hpp>

#include "eval/sampler.h"

namespace crumb::cli {

/// --temperature, --top-k, --top-p, --min-p, --repetition-penalty, --seed.
void add_sampler_options(CLI::App& command, eval::SamplerOptions& options);

}  // namespace crumb::cli
