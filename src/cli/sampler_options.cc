#include "cli/sampler_options.h"

namespace crumb::cli {

void add_sampler_options(CLI::App& command, eval::SamplerOptions& options) {
  command.add_option("--temperature", options.temperature, "0: always the most likely token")
      ->capture_default_str();
  command.add_option("--top-k", options.top_k, "only the k most likely; 0: all")->capture_default_str();
  command
      .add_option("--top-p", options.top_p,
                  "only the most likely that reach this probability together; 1: all")
      ->capture_default_str();
  command
      .add_option("--min-p", options.min_p,
                  "only those at least so likely, measured by the most likely; 0: all")
      ->capture_default_str();
  command
      .add_option("--repetition-penalty", options.repetition_penalty,
                  "above 1: tokens that were there already become less likely; 1: off")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "the same seed gives the same text")->capture_default_str();
}

}  // namespace crumb::cli
