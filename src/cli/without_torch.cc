// Stand-ins for src/cli/train in a build without torch: the commands exist and say what is missing.
#ifndef CRUMB_WITH_TORCH
#include "base/error.h"
#include "cli/command.h"

namespace crumb::cli {
namespace {

void add_stand_in(CLI::App& app, Action& action, const std::string& name, const std::string& description) {
  CLI::App* command = app.add_subcommand(name, description + " (not in this build: it has no torch)");
  command->allow_extras();
  command->callback([name, &action] {
    action = [name]() -> int {
      fail(ErrorKind::kUnsupported, "cli", "command '", name,
           "': this build has no torch; run scripts/setup.sh and build the release preset");
    };
  });
}

}  // namespace

void add_quantize(CLI::App& app, Action& action) {
  add_stand_in(app, action, "quantize", "train a model to few bits");
}
void add_generate(CLI::App& app, Action& action) {
  add_stand_in(app, action, "generate", "continue a prompt");
}

}  // namespace crumb::cli
#endif
