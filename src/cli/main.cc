// The program: one file per command beside this one. Errors end here, as one sentence on standard error and
// an exit code of their kind.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/command.h"

namespace crumb::cli {
namespace {

int report(ErrorKind kind, const std::string& message) {
  std::string line = message;
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "error: %s\n", line.c_str());
  return exit_code(kind);
}

/// The words that were possible where an argument was not understood.
std::vector<std::string> possible_words(const CLI::App& app, bool option) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  std::vector<std::string> words;
  if (option) {
    for (const CLI::Option* known : at->get_options()) {
      for (const std::string& name : known->get_lnames()) words.push_back("--" + name);
    }
  } else {
    for (const CLI::App* command : at->get_subcommands({})) words.push_back(command->get_name());
  }
  return words;
}

int report_parse_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string hint;
  const std::string_view what = error.what();
  const std::string word(what.substr(what.rfind(' ') == std::string_view::npos ? 0 : what.rfind(' ') + 1));
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    const std::string nearest = nearest_word(word, possible_words(app, word.rfind("--", 0) == 0));
    if (!nearest.empty()) hint = cat("; did you mean '", nearest, "'?");
  }
  const CLI::App* at = &app;
  std::string help = "crumb";
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    help += " " + at->get_name();
  }
  return report(ErrorKind::kInvalidArgument, cat("[cli] ", error.what(), hint, "; see ", help, " --help"));
}

int run(int argc, char** argv) {
  CLI::App app{"crumb quantizes the weights of language models to 2-4 bits by training (EfficientQAT)."};
  app.name("crumb");
  app.set_version_flag("--version", std::string("crumb ") + CRUMB_VERSION);
  app.require_subcommand(0, 1);
  Action action;
  add_quantize(app, action);
  add_eval(app, action);
  add_run(app, action);
  add_chat(app, action);
  add_generate(app, action);
  add_inspect(app, action);
  add_export(app, action);
  add_import(app, action);
  add_recipes(app, action);
  add_bench(app, action);
  add_roofline(app, action);
  add_doctor(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wish) {  // --help, --version
    return app.exit(wish);
  } catch (const CLI::ParseError& error) {
    return report_parse_error(app, error);
  }
  if (!action) {
    std::fputs(app.help().c_str(), stderr);
    return report(ErrorKind::kInvalidArgument, "[cli] no command was given; expected one of those above");
  }
  return action();
}

}  // namespace
}  // namespace crumb::cli

int main(int argc, char** argv) {
  using crumb::ErrorKind;
  using crumb::cli::report;
  crumb::log::set_level_from_environment();
  crumb::install_interrupt_handler();
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is then a failed write, with a message
  std::signal(SIGXFSZ, SIG_IGN);  // as is a file above the shell's limit
  try {
    return crumb::cli::run(argc, argv);
  } catch (const crumb::Error& error) {
    return report(error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    return report(
        ErrorKind::kOutOfMemory,
        "[cli] memory: an allocation failed; fewer samples, shorter windows or a smaller batch need less");
  } catch (const std::filesystem::filesystem_error& error) {
    return report(ErrorKind::kIo, crumb::cat("[cli] ", error.what()));
  } catch (const std::exception& error) {
    // libtorch reports a failed allocation with a type of its own, which this file does not know.
    const std::string_view what = error.what();
    const bool memory = what.find("can't allocate memory") != std::string_view::npos ||
                        what.find("out of memory") != std::string_view::npos;
    const std::string_view first_line = what.substr(0, what.find('\n'));
    if (memory)
      return report(ErrorKind::kOutOfMemory,
                    crumb::cat("[cli] memory: ", first_line,
                               "; fewer samples, shorter windows or a smaller batch need less"));
    std::fprintf(stderr, "error: [cli] internal: %.*s; this is a fault of crumb, please report it\n",
                 static_cast<int>(first_line.size()), first_line.data());
    return 1;
  }
}
