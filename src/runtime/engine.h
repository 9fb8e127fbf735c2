// A model ready to run on this machine's processor, without torch: `crumb run`, `chat`, `bench` and `eval`
// stand on it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/checkpoint.h"
#include "kernels/kv_store.h"
#include "model/config.h"
#include "quant/activation_scheme.h"
#include "runtime/forward.h"
#include "runtime/kv_cache.h"

namespace crumb::runtime {

/// kInt8: activations in front of packed linears are rounded to int8, in pieces of at most 64 along K, or as
/// EngineOptions::activations says.
/// kExact: they stay f32, floats of the checkpoint keep every bit; for parity.
enum class Accuracy { kInt8, kExact };
std::string_view to_string(Accuracy accuracy) noexcept;

struct EngineOptions {
  Accuracy accuracy = Accuracy::kInt8;
  int threads = 0;                             // 0: all processors; at most 1024
  std::optional<kernels::KvFormat> kv_format;  // default: default_kv_format()
  std::optional<int> head_bits;  // embedding and head: 8, 6, 4 or 0 as stored; default: default_head_bits()
  std::int64_t chunk_tokens = 256;  // tokens of all sequences in one pass; longer prompts take several
  /// How activations are rounded per token. Default: as the checkpoint says, if it says so; then each linear
  /// of a block takes its inputs so rounded, as integers with kInt8 (asymmetric ones of 8 bits, which no int8
  /// holds, as floats), and as f32 with kExact. The head is none of them.
  std::optional<quant::ActivationScheme> activations;
  std::filesystem::path weight_cache;  // empty: none; see default_weight_cache()
};

/// With kExact, and of a checkpoint of floats, 0. Else what a packed checkpoint says, and 8 where it says
/// nothing.
int default_head_bits(const formats::Checkpoint& checkpoint, Accuracy accuracy);

/// f32 with kExact. Else int8 or int4 where that is the very grid that the scheme rounds keys and values to
/// (symmetric 8 bits, asymmetric 4), and f16 for all others.
kernels::KvFormat default_kv_format(const quant::ActivationScheme& scheme, Accuracy accuracy);

/// What loading did.
struct LoadReport {
  bool from_cache = false;
  std::string cache_state;    // why no cache was used, or "written"; empty without one
  double hash_seconds = 0;    // of the model's files, for the cache's key
  double repack_seconds = 0;  // reading and repacking, or checking the cache
  double write_seconds = 0;   // of the cache
  double seconds = 0;         // all of it
  std::int64_t weight_bytes = 0, buffer_bytes = 0;
};

/// One sequence of a step and the tokens that are new in it.
using StepInput = Piece;

/// Holds weights and buffers; sequences are the caller's (KvCache). Calls must not overlap.
class Engine {
 public:
  /// A packed directory (crumb's own, GPTQ), a float HF directory or a GGUF file. Throws as
  /// formats::Checkpoint::open; InvalidArgument for threads, head_bits, chunk_tokens; OutOfMemory. A weight
  /// cache that is absent, foreign or damaged is made anew, whole or not at all; one that cannot be written
  /// is reported and done without.
  static std::unique_ptr<Engine> load(const std::filesystem::path& model, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const model::ModelConfig& config() const;
  const EngineOptions& options() const;
  const LoadReport& report() const;
  const ModelWeights& weights() const;
  /// "GPTQ w2g64, head w8g64, int8 activations, cache f16, 2 threads"
  std::string describe() const;
  ThreadPool& pool();
  StepTimes& times();

  /// An empty sequence for up to `capacity` tokens; throws as KvCache.
  std::unique_ptr<KvCache> new_sequence(std::int64_t capacity) const;

  /// Appends tokens to sequences of any different lengths and returns the logits of each one's last token,
  /// [inputs, vocab_size] f32, valid until the next call. The bits of a row depend on its own sequence alone.
  ///
  /// Throws InvalidArgument, before anything is computed, for no inputs, no tokens in one, ids outside the
  /// vocabulary, a sequence given twice or one whose capacity does not hold its tokens; Interrupted between
  /// passes after Ctrl-C, sequences then hold the passes that were done.
  std::span<const float> step(std::span<const StepInput> batch);

  /// Appends `tokens` to one sequence and hands over the logits of all of them in runs of consecutive tokens:
  /// sink(first, rows, logits [rows, vocab_size]), `first` counted in `tokens`. Throws as step().
  using Sink = std::function<void(std::int64_t first, std::int64_t rows, std::span<const float> logits)>;
  void step_all(const StepInput& input, const Sink& sink);

 private:
  Engine();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace crumb::runtime
