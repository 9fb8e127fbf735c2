#include "cli/model_loader.h"

#include "base/error.h"
#include "cli/run/engine.h"
#include "formats/checkpoint.h"
#include "runtime/engine_language_model.h"

namespace crumb::cli {

void ModelLoader::add_options(CLI::App& command) {
#ifdef CRUMB_WITH_TORCH
  command
      .add_option("--engine", engine,
                  "cpu: the fast engine; torch; auto: cpu for packed models, torch for floats")
      ->check(CLI::IsMember({"auto", "cpu", "torch"}))
      ->capture_default_str();
  command.add_option("--device", device, "of torch: auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--precision", precision, "of torch's matrix products: auto, f32 or bf16")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
#endif
  command.add_option("--threads", threads, "0: every core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_flag(
      "--exact", exact,
      "of the engine: keep activations in f32 instead of int8, for parity with the fake-quant model");
  command
      .add_option("--kv-cache", kv_cache,
                  "of the engine: f32, f16, int8 or int4; default: f16, with --exact f32")
      ->check(CLI::IsMember({"f32", "f16", "int8", "int4"}));
  command
      .add_option("--head-bits", head_bits,
                  "of the engine: embedding and head at 8, 6 or 4 bits; 0: as stored; default: as crumb run")
      ->check(CLI::IsMember({0, 8, 6, 4}));
}

OpenedModel ModelLoader::open(const std::string& path) const {
#ifdef CRUMB_WITH_TORCH
  const bool packed = formats::Checkpoint::open(path)->kind() == formats::CheckpointKind::kPacked;
  const bool in_torch = engine == "torch" || device == "cuda" || (engine == "auto" && !packed);
  if (in_torch) {
    if (exact || head_bits || !kv_cache.empty()) {
      fail(
          ErrorKind::kInvalidArgument, "cli.eval", path,
          ": runs in torch; --exact, --kv-cache and --head-bits are options of the engine: add --engine cpu");
    }
    return open_torch_model(path, *this);
  }
#endif
  EngineFlags flags;
  flags.threads = threads;
  flags.exact = exact;
  flags.kv_cache = kv_cache;
  flags.head_bits = head_bits;
  LoadedEngine loaded = load_engine(path, flags);
  OpenedModel out;
  out.description = loaded.engine->describe();
  out.model = std::make_unique<runtime::EngineLanguageModel>(std::move(loaded.engine));
  out.tokenizer = std::move(loaded.tokenizer);
  return out;
}

}  // namespace crumb::cli
