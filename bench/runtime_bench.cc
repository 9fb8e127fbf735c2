// Times a model on the engine, part by part, and measures its perplexity:
//
//   runtime_bench MODEL [--exact] [--threads N] [--kv f16] [--head-bits B] [--prompt 512] [--gen 128]
//   [--rounds 5]
//                 [--cache] [--tokens FILE.safetensors:NAME --context 512 --windows 1]
//
// Prompts are random ids. Decode figures are of one sequence, from an empty context on.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_info.h"
#include "base/rng.h"
#include "data/windows.h"
#include "eval/perplexity.h"
#include "runtime/engine_language_model.h"
#include "runtime/weight_cache.h"

namespace {

using namespace crumb;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void print_times(const char* what, const runtime::StepTimes& t, std::int64_t tokens) {
  const double scale = 1e6 / static_cast<double>(tokens);
  std::printf("  %-7s us/token: linears %.1f, attention %.1f, norms and the rest %.1f, head %.1f\n", what,
              t.linears * scale, t.attention * scale, t.norms * scale, t.head * scale);
}

int run(int argc, char** argv) {
  std::map<std::string, std::string> given;
  for (int i = 2; i < argc; ++i) {
    const bool flag = std::strcmp(argv[i], "--exact") == 0 || std::strcmp(argv[i], "--cache") == 0;
    if (!flag && i + 1 >= argc) fail(ErrorKind::kInvalidArgument, "bench", argv[i], ": needs a value");
    given[argv[i]] = flag ? "1" : argv[i + 1];
    i += flag ? 0 : 1;
  }
  const auto number = [&](const char* key, int otherwise) {
    return given.contains(key) ? std::atoi(given[key].c_str()) : otherwise;
  };
  runtime::EngineOptions options;
  if (given.contains("--exact")) options.accuracy = runtime::Accuracy::kExact;
  options.threads = number("--threads", 0);
  options.head_bits = number("--head-bits", 8);
  if (given.contains("--kv")) options.kv_format = kernels::parse_kv_format(given["--kv"]);
  if (given.contains("--cache")) options.weight_cache = runtime::default_weight_cache(argv[1]);
  runtime::EngineLanguageModel model(runtime::Engine::load(argv[1], options));
  runtime::Engine& engine = model.engine();
  const runtime::LoadReport& report = engine.report();
  std::printf("%s\n", engine.describe().c_str());
  std::printf("  load %.2f s (hash %.2f, %s %.2f, write %.2f), weights %s, buffers %s, resident %s\n",
              report.seconds, report.hash_seconds, report.from_cache ? "check cache" : "repack",
              report.repack_seconds, report.write_seconds,
              human_bytes(static_cast<double>(report.weight_bytes)).c_str(),
              human_bytes(static_cast<double>(report.buffer_bytes)).c_str(),
              human_bytes(static_cast<double>(resident_bytes())).c_str());

  if (given.contains("--tokens")) {
    data::TokenWindows windows =
        data::read_token_file(given["--tokens"], number("--context", 0), model.vocab_size());
    windows = windows.slice(0, std::min<std::int64_t>(windows.rows, number("--windows", 1)), windows.columns);
    const eval::Perplexity p = eval::perplexity(model, windows);
    std::printf("  perplexity %.6f (nll %.7f) over %ld windows of %ld, %.2f s\n", p.ppl, p.nll,
                static_cast<long>(windows.rows), static_cast<long>(windows.columns), p.seconds);
    return 0;
  }
  const int prompt = number("--prompt", 512), gen = number("--gen", 128), rounds = number("--rounds", 5);
  SplitMix64 random(1);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(std::max(prompt, 1)));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(random.next() % static_cast<std::uint64_t>(model.vocab_size()));
  const auto sequence = engine.new_sequence(std::max(prompt, gen) + 1);
  std::vector<double> prompt_rate, decode_rate;
  for (int round = 0; round < rounds; ++round) {
    sequence->truncate(0);
    engine.times() = {};
    double start = now();
    const runtime::StepInput all{sequence.get(), ids};
    engine.step({&all, 1});
    prompt_rate.push_back(prompt / (now() - start));
    if (round + 1 == rounds) print_times("prompt", engine.times(), prompt);
    sequence->truncate(0);
    engine.times() = {};
    start = now();
    for (int i = 0; i < gen; ++i) {
      const runtime::StepInput one{sequence.get(), std::span<const std::int32_t>(ids).subspan(
                                                       static_cast<std::size_t>(i % prompt), 1)};
      engine.step({&one, 1});
    }
    decode_rate.push_back(gen / (now() - start));
    if (round + 1 == rounds) print_times("decode", engine.times(), gen);
  }
  const auto show = [](const char* what, std::vector<double>& rate) {
    std::sort(rate.begin(), rate.end());
    std::printf("  %s: %.1f tokens/s (best %.1f, least %.1f)\n", what, rate[rate.size() / 2], rate.back(),
                rate.front());
  };
  show("prompt", prompt_rate);
  show("decode", decode_rate);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: runtime_bench MODEL [options]; see the head of bench/runtime_bench.cc\n");
    return 2;
  }
  try {
    return run(argc, argv);
  } catch (const crumb::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return crumb::exit_code(error.kind());
  }
}
