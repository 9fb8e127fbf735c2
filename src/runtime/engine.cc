#include "runtime/engine.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "quant/token_grid.h"
#include "runtime/weight_cache.h"

namespace crumb::runtime {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Logits of one call of a sink: 64 rows of a vocabulary of 128 Ki are 32 MiB.
constexpr std::int64_t kSinkRows = 64;
constexpr std::int64_t kMostChunkTokens = 1 << 16;

void check_options(const EngineOptions& options) {
  if (options.chunk_tokens < 1 || options.chunk_tokens > kMostChunkTokens) {
    fail(ErrorKind::kInvalidArgument, "runtime.engine", "chunks of ", options.chunk_tokens,
         " tokens: out of range; want 1 … ", kMostChunkTokens);
  }
}

std::string cache_key(const ImagePlan& plan, const std::string& content_hash) {
  const std::string text = cat("image ", kImageVersion, " lowbit ", kernels::kLowbitLayoutVersion, "\n",
                               content_hash, "\n", plan.describe());
  return sha256_hex(std::as_bytes(std::span(text.data(), text.size())));
}

/// "int8", "a8kv8 exact f32"
std::string activations_words(const quant::ActivationScheme& scheme, Accuracy accuracy) {
  const std::string name = quant::scheme_name(scheme);
  const bool integers = accuracy == Accuracy::kInt8 && integer_products(scheme);
  return cat(name, name.empty() ? "" : " ",
             integers                       ? "int8"
             : accuracy == Accuracy::kExact ? "exact f32"
                                            : "f32");
}

}  // namespace

std::string_view to_string(Accuracy accuracy) noexcept {
  return accuracy == Accuracy::kExact ? "exact" : "int8";
}

int default_head_bits(const formats::Checkpoint& checkpoint, Accuracy accuracy) {
  if (accuracy == Accuracy::kExact || !checkpoint.packed_spec()) return 0;
  return checkpoint.head_bits().value_or(8);
}

kernels::KvFormat default_kv_format(const quant::ActivationScheme& scheme, Accuracy accuracy) {
  if (accuracy == Accuracy::kExact) return kernels::KvFormat::kF32;
  for (const kernels::KvFormat format : {kernels::KvFormat::kInt8, kernels::KvFormat::kInt4})
    if (rounds_as(format, scheme)) return format;
  return kernels::KvFormat::kF16;
}

struct Engine::State {
  explicit State(const EngineOptions& given) : options(given), pool(given.threads) {}

  EngineOptions options;
  ThreadPool pool;
  model::ModelConfig config;
  std::string description;
  LoadReport report;
  Memory owned;                          // the image: here,
  std::optional<io::MappedFile> mapped;  // or there
  ModelWeights weights;
  std::unique_ptr<Forward> forward;
  std::vector<float> logits;

  void load_image(const std::filesystem::path& path, const formats::Checkpoint& checkpoint);
  void check(std::span<const StepInput> batch) const;
};

void Engine::State::load_image(const std::filesystem::path& path, const formats::Checkpoint& checkpoint) {
  const ImagePlan plan = plan_image(checkpoint, {*options.head_bits, options.accuracy == Accuracy::kExact});
  const bool cached = !options.weight_cache.empty();
  std::string key;
  const std::byte* image = nullptr;
  if (cached) {
    const auto start = Clock::now();
    key = cache_key(plan, model_content_hash(path, pool));
    report.hash_seconds = seconds_since(start);
  }
  const auto start = Clock::now();
  if (cached) {
    mapped = open_weight_cache(options.weight_cache, key, plan.bytes, pool, report.cache_state);
    if (mapped) image = cached_image(*mapped).data();
  }
  report.from_cache = image != nullptr;
  if (image == nullptr) {
    owned = Memory(plan.bytes, "weights");
    fill_image(plan, checkpoint, pool, owned.bytes());
    image = owned.data();
  }
  report.repack_seconds = seconds_since(start);
  if (cached && !report.from_cache) {
    log::info("weight cache ", options.weight_cache.string(), ": ", report.cache_state, "; writing it");
    const auto write_start = Clock::now();
    try {
      write_weight_cache(options.weight_cache, key, owned.bytes(), pool);
      report.cache_state += "; written";
    } catch (const Error& error) {
      log::warn(error.what(), "; going on without it");
      report.cache_state += cat("; not written: ", error.what());
    }
    report.write_seconds = seconds_since(write_start);
  }
  report.weight_bytes = static_cast<std::int64_t>(plan.bytes);
  weights = bind_weights(plan, config, image);
}

void Engine::State::check(std::span<const StepInput> batch) const {
  const auto refuse = [](const auto&... parts) {
    fail(ErrorKind::kInvalidArgument, "runtime.step", parts...);
  };
  if (batch.empty()) refuse("no sequences: want at least one");
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const StepInput& input = batch[i];
    CRUMB_CHECK(input.cache != nullptr);
    for (std::size_t j = 0; j < i; ++j)
      if (batch[j].cache == input.cache)
        refuse("sequences ", j, " and ", i, " are the same; want each one once");
    if (input.tokens.empty()) refuse("sequence ", i, ": no tokens; want at least one");
    for (const std::int32_t id : input.tokens) {
      if (id < 0 || id >= config.vocab_size) {
        refuse("token id ", id, ": outside of the model's vocabulary; want 0 … ", config.vocab_size - 1,
               "; use the tokenizer that belongs to this model");
      }
    }
    const std::int64_t total = input.cache->length() + static_cast<std::int64_t>(input.tokens.size());
    if (total > input.cache->capacity()) {
      refuse(total, " tokens: the sequence was opened for ", input.cache->capacity(),
             " (the model's limit is ", config.max_position_embeddings,
             "); use a shorter prompt or a larger context");
    }
    const kernels::KvBlock block = input.cache->block(0);
    CRUMB_CHECK(block.kv_heads == config.num_key_value_heads && block.head_dim == config.head_dim);
  }
}

Engine::Engine() = default;
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::load(const std::filesystem::path& model, const EngineOptions& options) {
  const auto start = Clock::now();
  check_options(options);
  std::unique_ptr<Engine> engine(new Engine);
  engine->state_ = std::make_unique<State>(options);
  State& state = *engine->state_;
  const std::unique_ptr<formats::Checkpoint> checkpoint = formats::Checkpoint::open(model);
  if (!options.activations)
    state.options.activations = checkpoint->activation_scheme().value_or(quant::ActivationScheme{});
  const quant::ActivationScheme& scheme = *state.options.activations;
  quant::check_activation_scheme(scheme, model.string());
  if (scheme.is_static() && checkpoint->activation_scheme() != scheme)
    fail(ErrorKind::kInvalidArgument, "runtime.load", model.string(), ": activations ",
         quant::scheme_name(scheme), " want static grids, which the model does not have; use per_token");
  if (!options.kv_format) state.options.kv_format = default_kv_format(scheme, options.accuracy);
  state.config = checkpoint->config();
  state.description = checkpoint->describe();
  if (!options.head_bits) state.options.head_bits = default_head_bits(*checkpoint, options.accuracy);
  state.load_image(model, *checkpoint);
  if (scheme.is_static()) load_input_grids(*checkpoint, state.weights);
  state.forward = std::make_unique<Forward>(
      state.config, state.weights,
      options.accuracy == Accuracy::kExact ? kernels::LowbitMode::kExact : kernels::LowbitMode::kInt8, scheme,
      options.chunk_tokens, state.pool);
  state.report.buffer_bytes = state.forward->buffer_bytes();
  state.report.seconds = seconds_since(start);
  return engine;
}

const model::ModelConfig& Engine::config() const {
  return state_->config;
}
const EngineOptions& Engine::options() const {
  return state_->options;
}
const LoadReport& Engine::report() const {
  return state_->report;
}
const ModelWeights& Engine::weights() const {
  return state_->weights;
}
ThreadPool& Engine::pool() {
  return state_->pool;
}
StepTimes& Engine::times() {
  return state_->forward->times;
}

std::string Engine::describe() const {
  const Linear& head = state_->weights.head;
  return cat(state_->description,
             head.is_lowbit ? cat(", head w", head.lowbit.shape.bits, "g", head.lowbit.shape.group_size) : "",
             ", ", activations_words(*state_->options.activations, state_->options.accuracy),
             " activations, cache ", to_string(*state_->options.kv_format), ", ", state_->pool.threads(),
             " threads");
}

std::unique_ptr<KvCache> Engine::new_sequence(std::int64_t capacity) const {
  return std::make_unique<KvCache>(state_->config, *state_->options.kv_format, capacity);
}

std::span<const float> Engine::step(std::span<const StepInput> batch) {
  state_->check(batch);
  Forward& forward = *state_->forward;
  const std::int64_t vocabulary = state_->config.vocab_size;
  state_->logits.resize(batch.size() * static_cast<std::size_t>(vocabulary));
  // Passes of at most chunk_tokens, cut from the sequences in their order.
  std::vector<Piece> pieces;
  std::vector<std::int64_t> last_rows;
  std::size_t done = 0;    // sequences whose logits are there
  std::int64_t taken = 0;  // tokens of the sequence after those
  for (std::size_t next = 0; next < batch.size();) {
    throw_if_interrupted("runtime.step");
    pieces.clear();
    last_rows.clear();
    std::int64_t rows = 0;
    while (next < batch.size() && rows < forward.most_tokens()) {
      const std::span<const std::int32_t> all = batch[next].tokens;
      const std::int64_t left = static_cast<std::int64_t>(all.size()) - taken,
                         count = std::min(left, forward.most_tokens() - rows);
      pieces.push_back(
          {batch[next].cache, all.subspan(static_cast<std::size_t>(taken), static_cast<std::size_t>(count))});
      rows += count;
      taken += count;
      if (count < left) break;
      last_rows.push_back(rows - 1);
      ++next;
      taken = 0;
    }
    forward.run(pieces);
    if (!last_rows.empty())
      forward.logits(last_rows, state_->logits.data() + done * static_cast<std::size_t>(vocabulary));
    done += last_rows.size();
  }
  return state_->logits;
}

void Engine::step_all(const StepInput& input, const Sink& sink) {
  state_->check({&input, 1});
  Forward& forward = *state_->forward;
  const std::int64_t vocabulary = state_->config.vocab_size,
                     total = static_cast<std::int64_t>(input.tokens.size());
  std::vector<std::int64_t> rows;
  for (std::int64_t first = 0; first < total; first += forward.most_tokens()) {
    throw_if_interrupted("runtime.step");
    const std::int64_t count = std::min(forward.most_tokens(), total - first);
    const Piece piece{input.cache,
                      input.tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count))};
    forward.run({&piece, 1});
    for (std::int64_t row = 0; row < count; row += kSinkRows) {
      rows.clear();
      for (std::int64_t i = row; i < std::min(row + kSinkRows, count); ++i) rows.push_back(i);
      state_->logits.resize(rows.size() * static_cast<std::size_t>(vocabulary));
      forward.logits(rows, state_->logits.data());
      sink(first + row, static_cast<std::int64_t>(rows.size()), state_->logits);
    }
  }
}

}  // namespace crumb::runtime
