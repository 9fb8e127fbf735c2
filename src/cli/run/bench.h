// The parts of `crumb bench`.
#pragma once
#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace crumb::cli {

void add_bench_kernels(CLI::App& bench, Action& action);
void add_bench_synthesize(CLI::App& bench, Action& action);

}  // namespace crumb::cli
