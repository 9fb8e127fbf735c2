// What every command gives to main: a sub-command of the parser, and what to run when it was chosen.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace crumb::cli {

/// Filled by the chosen command's parse callback; main runs it after parsing and returns its exit code.
using Action = std::function<int()>;

void add_inspect(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_import(CLI::App& app, Action& action);
void add_recipes(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_run(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_roofline(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
// Of src/cli/train, or stand-ins that say what is missing:
void add_quantize(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);

/// One JSON object and a line feed on standard output; bytes that are not UTF-8 are replaced. Throws Io when
/// it cannot be written.
void print_json(const nlohmann::ordered_json& value);
/// `text` and a line feed on standard output; throws Io when it cannot be written.
void print_line(const std::string& text);
/// A cell of a table: blanks in front of `text` up to `width`.
std::string align_right(const std::string& text, std::size_t width);

}  // namespace crumb::cli
