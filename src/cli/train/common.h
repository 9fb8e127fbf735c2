// What the commands that load a model share.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "pipeline/load_model.h"

namespace crumb::cli {

/// --device, --precision, --threads.
void add_load_options(CLI::App& command, pipeline::LoadOptions& options);

}  // namespace crumb::cli
