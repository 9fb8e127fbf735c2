// crumb bench: how fast a model runs here.
#include "cli/run/bench.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/rng.h"
#include "cli/run/engine.h"
#include "cli/run/line_reader.h"
#include "kernels/lowbit.h"

namespace crumb::cli {
namespace {

using nlohmann::ordered_json;

struct BenchOptions {
  std::string model;
  std::int64_t prompt = 512, gen = 128, depth = 0;
  int rounds = 5;
  bool json = false, paced = false;
  EngineFlags engine;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

ordered_json times_json(const runtime::StepTimes& t, std::int64_t tokens) {
  const double scale = tokens > 0 ? 1e6 / static_cast<double>(tokens) : 0;
  return {{"linears", t.linears * scale},
          {"attention", t.attention * scale},
          {"norms", t.norms * scale},
          {"head", t.head * scale}};
}

/// Random tokens through the engine; every round starts from an empty sequence.
class Bench {
 public:
  Bench(const BenchOptions& options, runtime::Engine& engine) : options_(options), engine_(engine) {
    const std::int64_t capacity = std::max(options.prompt, options.depth + options.gen);
    if (capacity > engine.config().max_position_embeddings) {
      fail(ErrorKind::kInvalidArgument, "cli.bench", options.model, ": its context is ",
           engine.config().max_position_embeddings, " tokens; --prompt, --depth and --gen want ", capacity);
    }
    sequence_ = engine.new_sequence(capacity);
    SplitMix64 random(1);
    for (std::int64_t i = 0; i < capacity; ++i)
      ids_.push_back(
          static_cast<std::int32_t>(random.next() % static_cast<std::uint64_t>(engine.config().vocab_size)));
    if (options.prompt > 0) prompt_round();  // the first touch of buffers and cache
    decode_round(1);
  }

  ordered_json round() {
    ordered_json out;
    if (options_.prompt > 0) {
      engine_.times() = {};
      out["prompt_tokens_per_second"] = prompt_.emplace_back(prompt_round());
      prompt_times_ = engine_.times();
    }
    if (options_.gen > 0) {
      engine_.times() = {};
      out["decode_tokens_per_second"] = decode_.emplace_back(decode_round(options_.gen));
      decode_times_ = engine_.times();
    }
    return out;
  }

  ordered_json result() const {
    ordered_json out = {{"model", options_.model},
                        {"description", engine_.describe()},
                        {"threads", engine_.pool().threads()},
                        {"isa", to_string(kernels::lowbit_variant().isa)},
                        {"prompt", options_.prompt},
                        {"gen", options_.gen},
                        {"depth", options_.depth},
                        {"rounds", std::max(prompt_.size(), decode_.size())}};
    const auto figures = [&](const char* name, const std::vector<double>& all,
                             const runtime::StepTimes& times, std::int64_t tokens) {
      if (all.empty()) return;
      out[cat(name, "_tokens_per_second")] = median(all);
      out[cat(name, "_best")] = *std::max_element(all.begin(), all.end());
      out[cat(name, "_all")] = all;
      out[cat(name, "_us_per_token")] = times_json(times, tokens);
    };
    figures("prompt", prompt_, prompt_times_, options_.prompt);
    figures("decode", decode_, decode_times_, options_.gen);
    out["load"] = load_json(engine_);
    out["memory"] = memory_json(engine_, sequence_->bytes());
    return out;
  }

 private:
  double prompt_round() {
    sequence_->truncate(0);
    const runtime::StepInput all{sequence_.get(), std::span<const std::int32_t>(ids_).first(
                                                      static_cast<std::size_t>(options_.prompt))};
    const double start = now();
    engine_.step({&all, 1});
    return rate(options_.prompt, now() - start);
  }
  double decode_round(std::int64_t tokens) {
    sequence_->truncate(0);
    const std::span<const std::int32_t> ids(ids_);
    if (options_.depth > 0) {
      const runtime::StepInput before{sequence_.get(), ids.first(static_cast<std::size_t>(options_.depth))};
      engine_.step({&before, 1});
      engine_.times() = {};
    }
    const double start = now();
    for (std::int64_t i = 0; i < tokens; ++i) {
      const runtime::StepInput one{sequence_.get(),
                                   ids.subspan(static_cast<std::size_t>(options_.depth + i), 1)};
      engine_.step({&one, 1});
    }
    return rate(tokens, now() - start);
  }

  const BenchOptions& options_;
  runtime::Engine& engine_;
  std::unique_ptr<runtime::KvCache> sequence_;
  std::vector<std::int32_t> ids_;
  std::vector<double> prompt_, decode_;
  runtime::StepTimes prompt_times_, decode_times_;
};

std::string as_text(const ordered_json& r) {
  std::string text = cat(r["description"].get<std::string>(), ", ", r["isa"].get<std::string>(),
                         "\nloaded in ", fixed(r["load"]["seconds"].get<double>(), 2), " s, weights ",
                         human_bytes(r["memory"]["weight_bytes"].get<double>()), ", cache ",
                         human_bytes(r["memory"]["kv_bytes"].get<double>()), ", buffers ",
                         human_bytes(r["memory"]["buffer_bytes"].get<double>()), ", peak ",
                         human_bytes(r["memory"]["peak_rss_bytes"].get<double>()));
  for (const char* name : {"prompt", "decode"}) {
    const std::string key = cat(name, "_tokens_per_second");
    if (!r.contains(key)) continue;
    text +=
        cat("\n", name, "  ", fixed(r[key].get<double>(), 1), " tokens/s (median of ", r["rounds"].get<int>(),
            ", best ", fixed(r[cat(name, "_best")].get<double>(), 1), "); us a token:");
    for (const auto& [part, us] : r[cat(name, "_us_per_token")].items())
      text += cat(" ", part, " ", fixed(us.get<double>(), 1));
  }
  return text;
}

int bench(const BenchOptions& options) {
  if (options.prompt == 0 && options.gen == 0)
    fail(ErrorKind::kInvalidArgument, "cli.bench", "--prompt and --gen are 0; expected one of them above");
  const auto engine = runtime::Engine::load(options.model, options.engine.resolve(options.model));
  Bench bench(options, *engine);
  if (options.paced) {
    // For comparisons: the other program has the machine while this one waits.
    LineReader input;
    while (input.next()) print_line(bench.round().dump());
    if (interrupted()) throw_if_interrupted("cli.bench");
    print_line(bench.result().dump());
    return 0;
  }
  for (int i = 0; i < options.rounds; ++i) {
    throw_if_interrupted("cli.bench");
    bench.round();
  }
  options.json ? print_json(bench.result()) : print_line(as_text(bench.result()));
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command =
      app.add_subcommand("bench", "speed of a model; of the kernels; a model of random weights to measure");
  command->require_subcommand(0, 1);
  CLI::Option* model =
      command->add_option("model", options->model, "packed directory, float model directory or .gguf");
  command->add_option("--prompt", options->prompt, "tokens of the prompt; 0: do not measure")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("--gen", options->gen, "tokens to decode one by one; 0: do not measure")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("--depth", options->depth, "tokens in the context before the first decoded one")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  CLI::Option* rounds =
      command->add_option("--rounds", options->rounds, "rounds, of which the median is given")
          ->check(CLI::Range(1, 10000))
          ->capture_default_str();
  add_engine_options(*command, options->engine);
  CLI::Option* json = command->add_flag("--json", options->json, "print one JSON object");
  command
      ->add_flag("--paced", options->paced,
                 "one round, and one line of JSON, for each line of standard input; the result at its end")
      ->excludes(rounds)
      ->excludes(json);
  add_bench_kernels(*command, action);
  add_bench_synthesize(*command, action);
  command->callback([options, command, model, &action] {
    if (!command->get_subcommands().empty()) return;
    if (model->count() == 0) throw CLI::RequiredError("model");
    action = [options] { return bench(*options); };
  });
}

}  // namespace crumb::cli
