// What the commands on the engine share: its options, loading, what they report.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "formats/checkpoint.h"
#include "runtime/engine.h"

namespace crumb::cli {

struct EngineFlags {
  int threads = 0;  // 0: every processor that the process may use
  bool exact = false, cache = false;
  std::string kv_cache;  // "": the engine's default
  std::optional<int> head_bits;
  runtime::EngineOptions resolve(const std::string& model) const;
};
/// --exact, --kv-cache, --head-bits.
void add_accuracy_options(CLI::App& command, EngineFlags& flags);
/// Those, --threads and --weight-cache.
void add_engine_options(CLI::App& command, EngineFlags& flags);
/// --threads alone: 1 to as many as there are processors.
void add_thread_option(CLI::App& command, int& threads);

struct LoadedEngine {
  std::shared_ptr<runtime::Engine> engine;
  std::unique_ptr<data::Tokenizer> tokenizer;  // null when the model has no tokenizer files
};
/// Throws as Engine::load and Tokenizer::open.
LoadedEngine load_engine(const std::string& model, const EngineFlags& flags);
/// Throws NotFound, in the words of `command`, where there is none.
const data::Tokenizer& need_tokenizer(const LoadedEngine& loaded, const std::string& model,
                                      const char* command);
/// The model's template, or the one in `file` when that is not empty. Throws NotFound where there is neither.
data::ChatTemplate need_chat_template(const std::string& model, const std::string& file,
                                      const data::Tokenizer& tokenizer);

/// {"seconds", "from_cache", "repack_seconds", "hash_seconds", "write_seconds", "cache"?}
nlohmann::ordered_json load_json(const runtime::Engine& engine);
/// {"weight_bytes", "kv_bytes", "buffer_bytes", "peak_rss_bytes"}
nlohmann::ordered_json memory_json(const runtime::Engine& engine, std::int64_t kv_bytes);

/// Tokens a second; 0 where no time passed.
double rate(std::int64_t tokens, double seconds);

}  // namespace crumb::cli
