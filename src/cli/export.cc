// crumb export and crumb import: a quantized model in other programs' formats, and back.
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "cli/client_check.h"
#include "cli/command.h"
#include "cli/grid_json.h"
#include "data/gguf_tokenizer_writer.h"
#include "data/tokenizer.h"
#include "formats/export/faces.h"
#include "formats/export_check.h"
#include "formats/exporter.h"
#include "io/atomic_output.h"

namespace crumb::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

struct ExportFlags {
  std::string model, to, output, head_type, gptq_zeros, check_with;
  std::uint64_t shard_bytes = 5'000'000'000;
  bool list = false, requantize = false, check = false, json = false;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// On a terminal, a line that moves; elsewhere a message every half minute.
std::function<void(std::int64_t, std::int64_t)> progress_of(const std::string& what) {
  const auto last = std::make_shared<Clock::time_point>(Clock::now());
  return [what, last](std::int64_t done, std::int64_t total) {
    log::set_status(done >= total ? std::string()
                                  : cat(what, ": ", human_bytes(static_cast<double>(done)), " of ",
                                        human_bytes(static_cast<double>(total))));
    constexpr double kSeconds = 30;
    if (seconds_since(*last) < kSeconds) return;
    *last = Clock::now();
    log::info(what, " done_bytes=", done, " total_bytes=", total);
  };
}

/// A GGUF file has its tokenizer inside; a directory wants it beside the weights.
std::map<std::string, std::string> tokenizer_texts(const formats::Checkpoint& source) {
  if (source.kind() != formats::CheckpointKind::kGguf) return {};
  try {
    return data::tokenizer_files(*data::Tokenizer::open(source.path()));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kNotFound) throw;
    log::warn("[cli.export] ", source.path().string(), ": holds no tokenizer; the copy will have none");
    return {};
  }
}

/// The tokenizer as the metadata that GGUF files carry it in.
std::vector<std::pair<std::string, io::GgufValue>> tokenizer_metadata(const formats::Checkpoint& source) {
  try {
    return data::gguf_tokenizer_metadata(source.path(), source.config().vocab_size);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kNotFound) throw;
    log::warn("[cli.export] ", source.path().string(),
              ": holds no tokenizer; the file will have none, and llama.cpp takes token ids only");
    return {};
  }
}

ordered_json check_json(const formats::ExportCheck& check) {
  ordered_json out = {{"linears", check.linears}, {"codes", check.codes},
                      {"scales", check.scales},   {"weights", check.weights},
                      {"lossy", check.lossy},     {"float_tensors", check.float_tensors}};
  ordered_json changed = ordered_json::array();
  for (const auto& [name, error] : check.changed_floats)
    changed.push_back({{"tensor", name}, {"relative_error", error}});
  out["changed_floats"] = std::move(changed);
  return out;
}

ordered_json checked(const formats::Checkpoint& source, const fs::path& path,
                     const formats::Exporter& exporter, const formats::ExportReport& report) {
  log::set_status("check");
  const formats::ExportCheck check = formats::check_export(source, path, report, exporter.writes_directory());
  log::set_status("");
  if (!check.faults.empty())
    fail(ErrorKind::kCorrupt, "cli.export", path.string(), ": ", check.faults.size(),
         " differences from the source, the first: ", check.faults.front(),
         "; nothing was kept. This is a fault of crumb, please report it");
  return check_json(check);
}

ordered_json write(const ExportFlags& flags, const formats::Exporter& exporter, const fs::path& output) {
  const auto start = Clock::now();
  if (fs::exists(output))
    fail(ErrorKind::kInvalidArgument, "cli.export", output.string(),
         ": is there already; give another name with --output, or remove it");
  formats::OpenOptions open;
  if (!flags.gptq_zeros.empty())
    open.gptq_zeros = flags.gptq_zeros == "v1" ? formats::GptqZeros::kV1 : formats::GptqZeros::kV2;
  const auto source = formats::Checkpoint::open(flags.model, open);
  formats::ExportOptions options;
  options.shard_bytes = static_cast<std::int64_t>(flags.shard_bytes);
  options.requantize = flags.requantize;
  options.progress = progress_of(std::string(exporter.name()));
  options.head_type = flags.head_type;
  if (exporter.writes_directory())
    options.texts = tokenizer_texts(*source);
  else
    options.tokenizer = tokenizer_metadata(*source);
  std::string lost;
  if (const auto scheme = source->activation_scheme()) lost = exporter.lost_activations(*scheme);
  if (!lost.empty())
    log::warn("[cli.export] ", flags.model, ": made to run with rounded activations (",
              quant::scheme_name(*source->activation_scheme()), "), and ", exporter.name(),
              " has no words for ", lost, "; whoever loads the result computes with floats there");
  formats::ExportReport report;
  ordered_json check;
  if (exporter.writes_directory()) {
    io::AtomicDirectory directory(output);
    report = exporter.write(*source, directory.path(), options);
    if (flags.check) check = checked(*source, directory.path(), exporter, report);
    directory.commit();
  } else {
    io::AtomicFile file(output);
    report = exporter.write(*source, file.path(), options);
    file.commit();  // a file is known by its ending, which it gets here
    report.file_bytes = static_cast<std::int64_t>(fs::file_size(output));
    try {
      if (flags.check) check = checked(*source, output, exporter, report);
    } catch (...) {
      fs::remove(output);
      throw;
    }
  }
  ordered_json lossy = ordered_json::array();
  for (const auto& [fit, error] : report.lossy)
    lossy.push_back({{"linear", fit.linear},
                     {"stored_as", fit.stored_as},
                     {"reason", fit.reason},
                     {"relative_error", error}});
  ordered_json out = {{"model", flags.model},
                      {"format", exporter.name()},
                      {"output", output.string()},
                      {"clients", exporter.clients()},
                      {"lossless", report.lossy.empty()},
                      {"tensor_bytes", report.tensor_bytes},
                      {"file_bytes", report.file_bytes},
                      {"shards", report.shards},
                      {"lossy", std::move(lossy)}};
  if (!lost.empty()) out["lost_activations"] = lost;
  if (!exporter.note().empty()) out["note"] = exporter.note();
  if (!check.is_null()) out["check"] = std::move(check);
  out["seconds"] = seconds_since(start);
  return out;
}

std::string written_text(const ordered_json& out) {
  std::string text =
      cat(out["output"].get<std::string>(), ": ", out["format"].get<std::string>(), ", ",
          human_bytes(out["file_bytes"].get<double>()), ", ",
          out["lossless"].get<bool>() ? "the same weights" : cat(out["lossy"].size(), " linears with loss"),
          ", ", human_seconds(out["seconds"].get<double>()), "\nfor ", out["clients"].get<std::string>());
  for (const auto& entry : out["lossy"])
    text += cat("\n  ", entry["linear"].get<std::string>(), "  ", entry["stored_as"].get<std::string>(),
                "  relative error ", entry["relative_error"].get<double>(), "  (",
                entry["reason"].get<std::string>(), ")");
  if (out.contains("check")) {
    const auto& check = out["check"];
    text += cat("\nchecked: ", check["linears"].dump(), " linears (", check["codes"].dump(), " codes, ",
                check["scales"].dump(), " scales, ", check["weights"].dump(), " weights) and ",
                check["float_tensors"].dump(), " other tensors are the same");
    for (const auto& changed : check["changed_floats"])
      text += cat("\n  ", changed["tensor"].get<std::string>(), " changed, relative error ",
                  changed["relative_error"].get<double>());
  }
  if (out.contains("note")) text += cat("\nnote: ", out["note"].get<std::string>());
  return text;
}

/// What a format makes of the model: how many linears as what, and the first reason against it.
ordered_json fit_json(const formats::Exporter& exporter, const std::vector<formats::LinearFit>& fits) {
  ordered_json stored = ordered_json::object(), reasons = ordered_json::array();
  std::int64_t lossless = 0, total = 0, nowhere = 0;
  for (const formats::LinearFit& fit : fits) {
    ++total;
    lossless += fit.lossless;
    nowhere += fit.stored_as.empty();
    if (!fit.stored_as.empty()) stored[fit.stored_as] = stored.value(fit.stored_as, 0) + 1;
    if (!fit.lossless) reasons.push_back({{"linear", fit.linear}, {"reason", fit.reason}});
  }
  return {{"format", exporter.name()},
          {"verdict", nowhere > 0         ? "no"
                      : lossless == total ? "lossless"
                                          : "with --requantize"},
          {"linears", total},
          {"lossless", lossless},
          {"stored_as", std::move(stored)},
          {"clients", exporter.clients()},
          {"reasons", std::move(reasons)}};
}

int list(const ExportFlags& flags) {
  const auto source = formats::Checkpoint::open(flags.model);
  ordered_json out = {{"model", flags.model}, {"weights", source->describe()}};
  log::set_status("grids");
  out.update(grids_json(*source));
  ordered_json formats = ordered_json::array();
  log::set_status("formats");
  const auto fits = formats::fits_of(*source, formats::exporters());
  for (std::size_t i = 0; i < fits.size(); ++i)
    formats.push_back(fit_json(*formats::exporters()[i], fits[i]));
  log::set_status("");
  out["formats"] = std::move(formats);
  if (flags.json) {
    print_json(out);
    return 0;
  }
  std::string text = cat(flags.model, ": ", source->describe(), "\n", grids_text(out), "\n");
  const auto pad = [](std::string word, std::size_t width) {
    word.resize(std::max(width, word.size() + 2), ' ');
    return word;
  };
  text += cat(pad("format", 26), pad("verdict", 19), pad("linears", 24), "for");
  for (const auto& row : out["formats"]) {
    std::string stored;
    for (const auto& [name, count] : row["stored_as"].items())
      stored += cat(stored.empty() ? "" : ", ", count.dump(), " as ", name);
    text += cat("\n", pad(row["format"], 26), pad(row["verdict"], 19), pad(stored.empty() ? "-" : stored, 24),
                row["clients"].get<std::string>());
    if (!row["reasons"].empty()) {
      const auto& first = row["reasons"][0];
      text +=
          cat("\n    ", first["linear"].get<std::string>(), ": ", first["reason"].get<std::string>(),
              row["reasons"].size() > 1 ? cat(" (and ", row["reasons"].size() - 1, " more)") : std::string());
    }
  }
  print_line(text);
  return 0;
}

int run_export(const ExportFlags& flags) {
  if (flags.list) return list(flags);
  if (flags.to.empty()) {
    std::vector<std::string> names;
    for (const formats::Exporter* exporter : formats::exporters()) names.emplace_back(exporter->name());
    fail(ErrorKind::kInvalidArgument, "cli.export", flags.model, ": no format; give --to with one of ",
         join(names, ", "), ", or --list to see which fit");
  }
  const formats::Exporter& exporter = formats::find_exporter(flags.to);
  fs::path output = flags.output;
  if (output.empty()) {
    const fs::path model = fs::weakly_canonical(flags.model);
    const std::string stem = model.extension() == ".gguf" ? model.stem().string() : model.filename().string();
    output = model.parent_path() / cat(stem, exporter.writes_directory() ? "-" : ".", flags.to);
  }
  const ordered_json out = write(flags, exporter, output);
  if (!flags.check_with.empty())
    check_with_client(flags.check_with, flags.model, flags.to == "onnx" ? output / "model.onnx" : output);
  flags.json ? print_json(out) : print_line(written_text(out));
  return 0;
}

void add_common(CLI::App& command, ExportFlags& flags) {
  command
      .add_option("--shard-size", flags.shard_bytes,
                  "most tensor bytes of one file, for example 5GB or 500MB")
      ->transform(CLI::AsSizeValue(true))
      ->default_str("5GB");
  command.add_flag("--requantize", flags.requantize,
                   "store what does not fit at the nearest that does, and say what it costs");
  command.add_flag("--check", flags.check,
                   "open the result again and compare it with the model, code by code and scale by scale");
  command.add_flag("--json", flags.json, "print one JSON object");
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* command = app.add_subcommand("export", "a quantized model in another program's format");
  command->add_option("model", flags->model, "packed directory or .gguf")->required();
  command->add_option("--to", flags->to, "the format; --list shows them");
  command->add_option("-o,--output", flags->output,
                      "default: the model's name and the format, beside the model");
  command
      ->add_option("--head-type", flags->head_type,
                   "GGUF: embedding and head as Q8_0, F16, BF16 or F32; default: Q8_0 where it fits")
      ->check(CLI::IsMember({"Q8_0", "F16", "BF16", "F32"}));
  command->add_flag("--list", flags->list,
                    "what the model's grid can go to, with or without loss, and why not");
  command->add_option(
      "--check-with", flags->check_with,
      "then run this command with the output and --logits FILE, 64 tokens and the model's own "
      "logits; it fails where another program's differ");
  add_common(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return run_export(*flags); }; });
}

void add_import(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* command =
      app.add_subcommand("import", "another program's quantized model as crumb's own directory");
  command
      ->add_option("model", flags->model,
                   "GPTQ, auto-round, compressed-tensors, AWQ, MLX or ONNX directory, or .gguf")
      ->required();
  command->add_option("-o,--output", flags->output, "the directory to write")->required();
  command
      ->add_option(
          "--gptq-zeros", flags->gptq_zeros,
          "how GPTQ tensors store zero points, where no configuration says so (EfficientQAT: v2) or a "
          "wrong one (OmniQuant: v2); bits and groups are read from their shapes")
      ->check(CLI::IsMember({"v1", "v2"}));
  add_common(*command, *flags);
  command->callback([flags, &action] {
    action = [flags] {
      const ordered_json out = write(*flags, formats::own_directory_exporter(), flags->output);
      flags->json ? print_json(out) : print_line(written_text(out));
      return 0;
    };
  });
}

}  // namespace crumb::cli
