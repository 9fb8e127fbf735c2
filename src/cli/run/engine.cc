#include "cli/run/engine.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_info.h"
#include "io/json.h"
#include "runtime/thread_pool.h"
#include "runtime/weight_cache.h"

namespace crumb::cli {

runtime::EngineOptions EngineFlags::resolve(const std::string& model) const {
  runtime::EngineOptions options;
  options.threads = threads;
  options.accuracy = exact ? runtime::Accuracy::kExact : runtime::Accuracy::kInt8;
  if (!kv_cache.empty()) options.kv_format = kernels::parse_kv_format(kv_cache);
  options.head_bits = head_bits;
  if (cache) options.weight_cache = runtime::default_weight_cache(model);
  return options;
}

void add_thread_option(CLI::App& command, int& threads) {
  command
      .add_option("--threads", threads,
                  cat("1 to ", runtime::usable_processors(), "; default: every processor of this machine"))
      ->check(CLI::Range(1, runtime::usable_processors()));
}

void add_accuracy_options(CLI::App& command, EngineFlags& flags) {
  command.add_flag("--exact", flags.exact,
                   "keep activations in f32 instead of int8: slower, equal to the fake-quant model");
  command.add_option("--kv-cache", flags.kv_cache, "f32, f16, int8 or int4; default: f16, with --exact f32")
      ->check(CLI::IsMember({"f32", "f16", "int8", "int4"}));
  command
      .add_option(
          "--head-bits", flags.head_bits,
          "embedding and head at 8, 6 or 4 bits; 0: as stored; default: what the recipe said, 8 for other "
          "packed models, 0 with --exact and for floats")
      ->check(CLI::IsMember({0, 8, 6, 4}));
}

void add_engine_options(CLI::App& command, EngineFlags& flags) {
  add_thread_option(command, flags.threads);
  add_accuracy_options(command, flags);
  command.add_flag("--weight-cache", flags.cache,
                   "keep the repacked weights in a file beside the model, and use it the next time");
}

LoadedEngine load_engine(const std::string& model, const EngineFlags& flags) {
  LoadedEngine loaded;
  loaded.engine = runtime::Engine::load(model, flags.resolve(model));
  try {
    loaded.tokenizer = data::Tokenizer::open(model);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kNotFound) throw;
  }
  log::debug("engine: ", loaded.engine->describe());
  return loaded;
}

const data::Tokenizer& need_tokenizer(const LoadedEngine& loaded, const std::string& model,
                                      const char* command) {
  if (loaded.tokenizer == nullptr) {
    fail(ErrorKind::kNotFound, cat("cli.", command), model,
         ": it has no tokenizer, which text needs; put tokenizer.json beside its weights");
  }
  return *loaded.tokenizer;
}

data::ChatTemplate need_chat_template(const std::string& model, const std::string& file,
                                      const data::Tokenizer& tokenizer) {
  if (!file.empty()) return data::ChatTemplate(io::read_text_file(file), file, tokenizer);
  auto found = data::ChatTemplate::find(model, tokenizer);
  if (!found) {
    fail(ErrorKind::kNotFound, "cli.chat", model,
         ": it has no chat template; give one with --chat-template FILE, or continue plain text with crumb "
         "run -p");
  }
  return std::move(*found);
}

nlohmann::ordered_json load_json(const runtime::Engine& engine) {
  const runtime::LoadReport& r = engine.report();
  nlohmann::ordered_json out = {{"seconds", r.seconds},
                                {"from_cache", r.from_cache},
                                {"repack_seconds", r.repack_seconds},
                                {"hash_seconds", r.hash_seconds},
                                {"write_seconds", r.write_seconds}};
  if (!r.cache_state.empty()) out["cache"] = r.cache_state;
  return out;
}

nlohmann::ordered_json memory_json(const runtime::Engine& engine, std::int64_t kv_bytes) {
  return {{"weight_bytes", engine.report().weight_bytes},
          {"kv_bytes", kv_bytes},
          {"buffer_bytes", engine.report().buffer_bytes},
          {"peak_rss_bytes", peak_resident_bytes()}};
}

double rate(std::int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

}  // namespace crumb::cli
