#include "runtime/roofline.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "kernels/dense_linear.h"
#include "kernels/lowbit.h"
#include "kernels/lowbit_speed.h"
#include "kernels/memory_speed.h"
#include "kernels/sgemm.h"
#include "model/family.h"
#include "runtime/kv_cache.h"
#include "runtime/thread_pool.h"
#include "runtime/weights.h"

namespace crumb::runtime {
namespace {

constexpr std::int64_t kPass = 256;  // tokens, EngineOptions::chunk_tokens

std::int64_t linear_weights(const model::ModelConfig& c) {
  std::int64_t sum = 0;
  for (const model::LinearRole role : model::linear_roles(c)) {
    const model::LinearShape shape = model::linear_shape(c, role);
    sum += shape.n * shape.k;
  }
  return sum * c.num_hidden_layers;
}

double median_of(int rounds, const auto& measure) {
  std::vector<double> all;
  for (int i = 0; i < rounds; ++i) all.push_back(measure());
  std::nth_element(all.begin(), all.begin() + rounds / 2, all.end());
  return all[static_cast<std::size_t>(rounds / 2)];
}

std::int64_t model_sized(std::int64_t bytes) {
  return std::clamp<std::int64_t>(bytes, 1 << 20, 1 << 30);
}

double measure_bandwidth(std::int64_t bytes, int threads) {
  const kernels::TouchedMemory memory(static_cast<std::size_t>(model_sized(bytes)));
  kernels::read_bandwidth_gbps(memory.span(), threads);  // pages and caches as a second step would find them
  return median_of(5, [&] { return kernels::read_bandwidth_gbps(memory.span(), threads); });
}

/// What products of one row reach of the read bandwidth, on weights of `bytes` in the shape of the model's
/// largest linears or of its head.
double measure_share(const quant::AffineSpec& spec, std::int64_t n, std::int64_t k, std::int64_t bytes,
                     int threads) {
  kernels::LowbitSpeedOptions options;
  options.bits = {spec.bits};
  options.group_size = spec.group_size;
  options.grid = spec.grid;
  options.shapes = {{n, k}};
  options.m = {1};
  options.isas = {kernels::lowbit_variant().isa};
  options.threads = threads;
  options.weight_bytes = model_sized(bytes);
  double share = 1;
  kernels::measure_lowbit(options,
                          [&](const kernels::LowbitSpeed& row) { share = row.fraction_of_bandwidth; });
  return share;
}

double measure_lowbit_gops(int bits, std::int64_t group, std::int64_t m, std::int64_t weight_bytes,
                           int threads) {
  kernels::LowbitSpeedOptions options;
  options.bits = {bits};
  options.shapes = {{1024, 2048}};
  options.group_size = group;
  options.m = {m};
  options.isas = {kernels::lowbit_variant().isa};
  options.threads = threads;
  options.weight_bytes = weight_bytes;
  options.rounds = 5;
  options.seconds_per_pass = 0.05;
  double gops = 0;
  kernels::measure_lowbit(options, [&](const kernels::LowbitSpeed& row) { gops = row.gops; });
  return gops;
}

double measure_f32(int threads) {
  constexpr std::int64_t kSize = 256;
  const std::vector<float> a(kSize * kSize, 0.5f), b(kSize * kSize, 0.25f);
  const kernels::SgemmFn sgemm = kernels::own_sgemm();
  std::vector<std::vector<float>> out(static_cast<std::size_t>(threads), std::vector<float>(kSize * kSize));
  std::vector<kernels::TouchedMemory> workspaces;
  for (int i = 0; i < threads; ++i)
    workspaces.emplace_back(static_cast<std::size_t>(kernels::sgemm_workspace_floats()) * sizeof(float));
  constexpr int kRepeats = 20;
  const double seconds = median_of(5, [&] {
    return kernels::seconds_of(threads, [&](int thread) {
      kernels::SgemmArgs args;
      args.m = args.n = args.k = args.lda = args.ldb = args.ldc = kSize;
      args.transpose_b = true;
      args.a = a.data();
      args.b = b.data();
      args.c = out[static_cast<std::size_t>(thread)].data();
      for (int i = 0; i < kRepeats; ++i)
        sgemm(args, reinterpret_cast<float*>(workspaces[static_cast<std::size_t>(thread)].span().data()));
    });
  });
  return 2.0 * kSize * kSize * kSize * kRepeats * threads / seconds / 1e9;
}

double measure_dense_decode(int threads) {
  constexpr std::int64_t kN = 128, kK = 1024, kRepeats = 200;  // 256 KiB of weights a thread
  std::vector<kernels::TouchedMemory> weights;
  for (int i = 0; i < threads; ++i) weights.emplace_back(static_cast<std::size_t>(kN * kK) * 2);
  const std::vector<float> x(kK, 0.5f);
  std::vector<std::vector<float>> y(static_cast<std::size_t>(threads), std::vector<float>(kN));
  const double seconds = median_of(5, [&] {
    return kernels::seconds_of(threads, [&](int thread) {
      const auto i = static_cast<std::size_t>(thread);
      const kernels::DenseMatrix w{kernels::DenseType::kF16, kN, kK, weights[i].span().data()};
      for (std::int64_t r = 0; r < kRepeats; ++r)
        kernels::dense_multiply(w, x.data(), kK, 1, 0, kN, y[i].data(), kN);
    });
  });
  return 2.0 * kN * kK * kRepeats * threads / seconds / 1e9;
}

/// What a loop costs beyond its work: two parts a thread, as the pool cuts them, of 3 us each.
double measure_synchronization_us(int threads) {
  if (threads == 1) return 0;
  constexpr double kWork = 3e-6;
  constexpr int kLoops = 200;
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  ThreadPool pool(threads);
  std::vector<double> all;
  for (int round = 0; round < 9; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < kLoops; ++i) {
      pool.run(2 * threads, [&](std::int64_t begin, std::int64_t end, int) {
        const auto begun = Clock::now();
        while (seconds_since(begun) < kWork * static_cast<double>(end - begin)) {
        }
      });
    }
    all.push_back((seconds_since(start) / kLoops - 2 * kWork) * 1e6);
  }
  return std::max(*std::min_element(all.begin(), all.end()), 0.0);  // others on the machine only add
}

RooflinePart part(std::string name, double bytes, double ops, double gops_limit, std::string_view rate_name,
                  double read_gbps) {
  RooflinePart out{std::move(name), bytes, ops, gops_limit, 0, "bandwidth"};
  const double reading = bytes / (read_gbps * 1e9), computing = ops / (gops_limit * 1e9);
  out.seconds = std::max(reading, computing);
  if (computing > reading) out.bound = rate_name;
  return out;
}

RooflinePart loops(double count, double us) {
  return {"synchronization", 0, 0, 0, count * us * 1e-6, "threads"};
}

std::string longest(const std::vector<RooflinePart>& parts) {
  const auto it = std::max_element(parts.begin(), parts.end(),
                                   [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
  return it->name + ": " + it->bound;
}

double sum_seconds(const std::vector<RooflinePart>& parts) {
  return std::accumulate(parts.begin(), parts.end(), 0.0,
                         [](double sum, const RooflinePart& p) { return sum + p.seconds; });
}

}  // namespace

std::int64_t block_linear_bytes(const RooflineModel& model) {
  if (!model.spec) return linear_weights(model.config) * model.float_bytes;
  std::int64_t bytes = 0;
  for (const model::LinearRole role : model::linear_roles(model.config)) {
    const model::LinearShape shape = model::linear_shape(model.config, role);
    bytes +=
        kernels::lowbit_bytes(kernels::lowbit_shape(shape.n, shape.k, *model.spec, model::hf_name(role)));
  }
  return bytes * model.config.num_hidden_layers;
}

std::int64_t head_bytes(const RooflineModel& model) {
  const model::ModelConfig& c = model.config;
  if (model.head_bits == 0) return c.vocab_size * c.hidden_size * model.float_bytes;
  return kernels::lowbit_bytes(kernels::lowbit_shape(c.vocab_size, c.hidden_size,
                                                     head_spec(model.head_bits, c.hidden_size), "lm_head"));
}

MachineRates measure_machine(const RooflineModel& model, MachineRates rates) {
  constexpr std::int64_t kInCache = 256 << 10;  // a thread's share fits the first two caches
  const int bits = model.spec ? model.spec->bits : model.head_bits != 0 ? model.head_bits : 8;
  const std::int64_t group =
      model.spec && 2048 % model.spec->group_of(2048) == 0 ? model.spec->group_of(2048) : 64;
  const std::int64_t bytes = block_linear_bytes(model) + head_bytes(model);
  const model::ModelConfig& c = model.config;
  const bool given = rates.read_gbps != 0;
  if (rates.linear_share == 0) {
    rates.linear_share = given || !model.spec ? 1
                                              : measure_share(*model.spec, c.intermediate_size, c.hidden_size,
                                                              bytes, rates.threads);
  }
  if (rates.head_share == 0) {
    rates.head_share = given || model.head_bits == 0
                           ? 1
                           : measure_share(head_spec(model.head_bits, c.hidden_size), c.vocab_size,
                                           c.hidden_size, bytes, rates.threads);
  }
  if (!given) rates.read_gbps = measure_bandwidth(bytes, rates.threads);
  if (rates.int8_decode_gops == 0)
    rates.int8_decode_gops = measure_lowbit_gops(bits, group, 1, kInCache * rates.threads, rates.threads);
  if (rates.int8_prompt_gops == 0)
    rates.int8_prompt_gops = measure_lowbit_gops(bits, group, kPass, kInCache * rates.threads, rates.threads);
  if (rates.dense_decode_gflops == 0) rates.dense_decode_gflops = measure_dense_decode(rates.threads);
  if (rates.f32_gflops == 0) rates.f32_gflops = measure_f32(rates.threads);
  if (rates.synchronization_us == 0) rates.synchronization_us = measure_synchronization_us(rates.threads);
  return rates;
}

RooflinePrediction predict(const RooflineModel& model, const MachineRates& rates, std::int64_t context,
                           std::int64_t prompt) {
  const model::ModelConfig& c = model.config;
  const auto weights = static_cast<double>(linear_weights(c)),
             blocks = static_cast<double>(c.num_hidden_layers);
  const auto head_weights = static_cast<double>(c.vocab_size * c.hidden_size);
  const auto linear_bytes = static_cast<double>(block_linear_bytes(model)),
             of_head = static_cast<double>(head_bytes(model));
  // Keys and values of one token in all blocks; in a full cache, where padding does not show.
  const double kv_bytes = static_cast<double>(kv_cache_bytes(c, model.kv_format, c.max_position_embeddings)) /
                          static_cast<double>(c.max_position_embeddings);
  const double attention_ops =
      4.0 * static_cast<double>(c.num_attention_heads * c.head_dim) * blocks;  // a token and one before it
  const double activation_bytes =
      blocks * 4 * static_cast<double>(30 * c.hidden_size + 4 * c.intermediate_size);
  const std::string_view linear_rate = model.spec ? "int8" : "f32",
                         head_rate = model.head_bits != 0 ? "int8" : "f32";
  const double linear_decode = model.spec ? rates.int8_decode_gops : rates.f32_gflops,
               linear_prompt = model.spec ? rates.int8_prompt_gops : rates.f32_gflops;
  const double head_gops = model.head_bits != 0 ? rates.int8_decode_gops : rates.dense_decode_gflops;
  const auto window = [&](double tokens) {
    return c.sliding_window > 0 ? std::min(tokens, static_cast<double>(c.sliding_window)) : tokens;
  };

  const double linear_gbps = rates.read_gbps * rates.linear_share,
               head_gbps = rates.read_gbps * rates.head_share;

  RooflinePrediction out;
  const double seen = window(static_cast<double>(context) + 1);
  out.decode = {
      part("block linears", linear_bytes, 2 * weights, linear_decode, linear_rate, linear_gbps),
      part("attention", seen * kv_bytes, seen * attention_ops, rates.f32_gflops, "f32", rates.read_gbps),
      part("head", of_head, 2 * head_weights, head_gops, head_rate, head_gbps),
      part("activations", activation_bytes, activation_bytes / 4, rates.f32_gflops, "f32", rates.read_gbps),
      loops(5 * blocks + 1, rates.synchronization_us)};
  const auto tokens = static_cast<double>(prompt), passes = static_cast<double>((prompt + kPass - 1) / kPass);
  const double pairs = tokens * window(tokens / 2 + 0.5);
  out.prompt = {part("block linears", linear_bytes * passes, 2 * weights * tokens, linear_prompt, linear_rate,
                     linear_gbps),
                part("attention", passes * tokens / 2 * kv_bytes, pairs * attention_ops, rates.f32_gflops,
                     "f32", rates.read_gbps),
                part("head", of_head, 2 * head_weights, head_gops, head_rate, head_gbps),
                part("activations", activation_bytes * tokens, activation_bytes / 4 * tokens,
                     rates.f32_gflops, "f32", rates.read_gbps),
                loops((11 * blocks + 1) * passes, rates.synchronization_us)};
  out.decode_tokens_per_second = 1 / sum_seconds(out.decode);
  out.prompt_tokens_per_second = tokens / sum_seconds(out.prompt);
  out.decode_bound = longest(out.decode);
  out.prompt_bound = longest(out.prompt);
  return out;
}

}  // namespace crumb::runtime
