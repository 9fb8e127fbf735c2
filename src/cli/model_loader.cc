#include "cli/model_loader.h"

#include "base/error.h"
#include "base/log.h"
#include "formats/checkpoint.h"
#include "runtime/engine_language_model.h"

namespace crumb::cli {

void add_torch_options(CLI::App& command, std::string& device, std::string& precision) {
  command.add_option("--device", device, "of torch: auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--precision", precision, "of torch's matrix products: auto, f32 or bf16")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
}

void add_torch_threads(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "0: every core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

void ModelLoader::add_options(CLI::App& command) {
#ifdef CRUMB_WITH_TORCH
  command
      .add_option(
          "--engine", engine,
          "cpu: the fast engine, which --exact, --kv-cache and --head-bits are for; torch; auto: cpu for "
          "packed models, torch for floats")
      ->check(CLI::IsMember({"auto", "cpu", "torch"}))
      ->capture_default_str();
  add_torch_options(command, device, precision);
#else
  command
      .add_option("--engine", engine, "cpu: the fast engine, the only one of this build, which has no torch")
      ->check(CLI::IsMember({"auto", "cpu"}))
      ->capture_default_str();
#endif
  add_torch_threads(command, flags.threads);
  add_accuracy_options(command, flags);
}

#ifdef CRUMB_WITH_TORCH
namespace {

/// "a4kv4 asym" of a checkpoint that records such; empty for any other.
std::string activation_words(const formats::Checkpoint& checkpoint) {
  return quant::scheme_name(checkpoint.activation_scheme().value_or(quant::ActivationScheme{}));
}

}  // namespace
#endif

OpenedModel ModelLoader::open(const std::string& path) const {
#ifdef CRUMB_WITH_TORCH
  bool in_torch = engine == "torch" || device == "cuda";
  if (engine == "auto" && !in_torch) {
    const auto checkpoint = formats::Checkpoint::open(path);
    const std::string activations = activation_words(*checkpoint);
    in_torch = !activations.empty() || checkpoint->kind() != formats::CheckpointKind::kPacked;
    if (!activations.empty())
      log::info("eval: ", path, ": its recipe quantizes activations (", activations,
                "), which torch simulates");
  }
  if (in_torch) {
    if (flags.exact || flags.head_bits || !flags.kv_cache.empty()) {
      fail(
          ErrorKind::kInvalidArgument, "cli.eval", path,
          ": runs in torch; --exact, --kv-cache and --head-bits are options of the engine: add --engine cpu");
    }
    return open_torch_model(path, *this);
  }
#endif
  LoadedEngine loaded = load_engine(path, flags);
  OpenedModel out;
  out.description = loaded.engine->describe();
  out.model = std::make_unique<runtime::EngineLanguageModel>(std::move(loaded.engine));
  out.tokenizer = std::move(loaded.tokenizer);
  return out;
}

}  // namespace crumb::cli
