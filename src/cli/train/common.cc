#include "cli/train/common.h"

namespace crumb::cli {

void add_load_options(CLI::App& command, pipeline::LoadOptions& options) {
  command.add_option("--device", options.device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--precision", options.precision, "of matrix products: auto, f32 or bf16")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
  command.add_option("--threads", options.threads, "0: every core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

}  // namespace crumb::cli
