#include "train/training_step.h"

#include <ATen/Parallel.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>

#include "base/memory_info.h"
#include "base/str.h"
#include "kernels/gemm_bf16.h"
#include "kernels/isa.h"
#include "nn/composed.h"
#include "nn/functional.h"
#include "nn/host_memory.h"

namespace crumb::bench {

using at::Tensor;

namespace {

std::vector<Form> forms() {
  std::vector<Form> all = {{"composed_eager", {nn::Precision::kF32, false, true}},
                           {"composed_sdpa", {nn::Precision::kF32, false, false}},
                           {"crumb_f32", {nn::Precision::kF32, true, false}}};
  if (kernels::has_fast_gemm_bf16()) all.push_back({"crumb_bf16", {nn::Precision::kBf16, true, false}});
  return all;
}

// A block of a Llama of this hidden size: SmolLM2-135M's at 576, a 1B Llama's at 2048.
model::ModelConfig shape_of(std::int64_t hidden) {
  model::ModelConfig c;
  c.family = "llama";
  c.hidden_size = hidden;
  c.head_dim = 64;
  c.num_attention_heads = hidden / 64;
  c.num_key_value_heads =
      hidden == 576 ? 3 : std::max<std::int64_t>(1, hidden / 256);  // SmolLM2-135M; a 1B Llama
  c.intermediate_size = hidden == 576 ? 1536 : hidden * 4;
  c.num_hidden_layers = 1;
  c.max_position_embeddings = 8192;
  return c;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Peak of a child process over what it had before the block was made.
double child_peak(const std::string& self, const Form& form, std::int64_t hidden, const Options& o) {
  const std::string command = cat(self, " --only ", form.name, " --hidden ", hidden, " --tokens ", o.tokens,
                                  " --batch ", o.batch, " --threads ", o.threads);
  double bytes = 0;
  if (std::FILE* pipe = ::popen(command.c_str(), "r")) {
    if (std::fscanf(pipe, "%lf", &bytes) != 1) bytes = 0;
    ::pclose(pipe);
  }
  return bytes;
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
    if (word == "--hidden") {
      o.hidden.clear();
      std::istringstream list(value());
      for (std::string part; std::getline(list, part, ',');) o.hidden.push_back(std::stoll(part));
    } else if (word == "--tokens") {
      o.tokens = std::stoll(value());
    } else if (word == "--batch") {
      o.batch = std::stoll(value());
    } else if (word == "--rounds") {
      o.rounds = std::stoi(value());
    } else if (word == "--threads") {
      o.threads = std::stoi(value());
    } else if (word == "--only") {
      o.only = value();
    } else if (word == "--steps") {
      o.steps = std::stoi(value());
    } else if (word == "--json") {
      o.json = true;
    } else {
      std::fprintf(stderr, "unknown option %s\n", word.c_str());
      std::exit(2);
    }
  }
  return o;
}

}  // namespace

void ComposedAdamW::add(const Tensor& w) {
  slots.push_back({w, at::zeros_like(w), at::zeros_like(w)});
}

void ComposedAdamW::step(double lr) {
  ++steps;
  for (Slot& s : slots) {
    nn::composed::adamw_step(s.w, s.w.grad(), s.m, s.v, steps, lr, {});
    s.w.mutable_grad() = Tensor();
  }
}

Trainer::Trainer(const Form& form, std::int64_t hidden, const Options& o)
    : form_(form), block_(shape_of(hidden)) {
  nn::use_host_memory(form.compute.fused);  // the composed forms keep the library's allocator
  at::manual_seed(1);
  for (auto& [name, norm] : block_.norms()) *norm = at::ones({hidden});
  for (const model::LinearRole role : block_.roles()) {
    nn::QuantLinear& linear = block_.linear(role);
    const model::LinearShape shape = model::linear_shape(block_.config(), role);
    linear.n = shape.n;
    linear.k = shape.k;
    linear.weight = at::randn({shape.n, shape.k}) * 0.02;
  }
  rope_ = nn::make_rope_table(block_.config(), o.tokens, at::kCPU);
  x_ = at::randn({o.batch, o.tokens, hidden});
  target_ = at::randn({o.batch, o.tokens, hidden});
}

void Trainer::train(Tensor& t, std::size_t set) {
  t = t.detach().contiguous().requires_grad_(true);
  if (fused()) {
    parameters_.push_back({t, set});
  } else {
    composed_.add(t);
  }
}

void Trainer::ready() {
  if (fused()) fused_ = std::make_unique<methods::AdamW>(std::move(parameters_), nn::AdamWSettings{});
}

Tensor Trainer::loss(const nn::DecoderBlock& block) const {
  nn::use_host_memory(fused());
  return nn::mse_loss(block.forward(x_, rope_, form_.compute), target_, form_.compute);
}

int run_step_bench(int argc, char** argv, const std::string& subject, const MakeTrainer& make,
                   const std::string& own_arguments) {
  const Options o = parse(argc, argv);
  nn::set_threads(o.threads);
  if (!o.only.empty()) {
    for (const Form& form : forms()) {
      if (o.only != form.name) continue;
      at::ones({64, 64}).mm(at::ones({64, 64}));  // libraries are up
      const double before = static_cast<double>(resident_bytes());
      const auto trainer = make(form, o.hidden.front(), o);
      for (int step = 0; step < o.steps; ++step) trainer->step();
      std::printf("%.0f\n", static_cast<double>(peak_resident_bytes()) - before);
    }
    return 0;
  }
  std::printf("%sisa %s (limit %s), threads %d, %lld x %lld tokens, %s, medians of %d interleaved rounds\n",
              o.json ? "# " : "", kernels::machine_isas().c_str(),
              std::string(kernels::to_string(kernels::isa_limit())).c_str(), at::get_num_threads(),
              static_cast<long long>(o.batch), static_cast<long long>(o.tokens), subject.c_str(), o.rounds);
  for (const std::int64_t hidden : o.hidden) {
    std::vector<std::unique_ptr<Trainer>> trainers;
    std::map<std::string, std::vector<double>> times;
    for (const Form& form : forms()) trainers.push_back(make(form, hidden, o));
    for (auto& trainer : trainers) trainer->step();  // warm up
    for (int round = 0; round < o.rounds; ++round) {
      for (std::size_t i = 0; i < trainers.size(); ++i) {
        const double start = now();
        trainers[i]->step();
        times[forms()[i].name].push_back(now() - start);
      }
    }
    trainers.clear();
    std::map<std::string, double> memory;
    for (const Form& form : forms())
      memory[form.name] = child_peak(cat(argv[0], " ", own_arguments), form, hidden, o);
    const double eager = median(times["composed_eager"]), sdpa = median(times["composed_sdpa"]),
                 eager_memory = memory["composed_eager"], sdpa_memory = memory["composed_sdpa"];
    for (const Form& form : forms()) {
      const double t = median(times[form.name]),
                   low = *std::min_element(times[form.name].begin(), times[form.name].end()),
                   high = *std::max_element(times[form.name].begin(), times[form.name].end());
      if (o.json) {
        std::printf(
            "{\"hidden\": %lld, \"form\": \"%s\", \"ms\": %.1f, \"ms_min\": %.1f, \"ms_max\": %.1f, "
            "\"speedup_over_eager\": %.3f, \"speedup_over_sdpa\": %.3f, "
            "\"peak_bytes\": %.0f, \"memory_of_eager\": %.3f, \"memory_of_sdpa\": %.3f}\n",
            static_cast<long long>(hidden), form.name, t * 1e3, low * 1e3, high * 1e3, eager / t, sdpa / t,
            memory[form.name], memory[form.name] / eager_memory, memory[form.name] / sdpa_memory);
      } else {
        std::printf(
            "hidden %5lld  %-15s %8.1f ms (%.1f ... %.1f)  %5.2fx eager  %5.2fx sdpa  peak %9s  %.2f of "
            "eager  %.2f of sdpa\n",
            static_cast<long long>(hidden), form.name, t * 1e3, low * 1e3, high * 1e3, eager / t, sdpa / t,
            human_bytes(memory[form.name]).c_str(), memory[form.name] / eager_memory,
            memory[form.name] / sdpa_memory);
      }
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace crumb::bench
