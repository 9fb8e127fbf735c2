// One Block-AP optimizer step: the authors' composed form with eager attention, the same with SDPA, and
// crumb's, interleaved in one process; the peak memory of each in a process of its own.
//
//   build/release/bench/block_ap_bench [--hidden 576,2048] [--tokens 1024] [--batch 2] [--rounds 5]
//   [--threads N] [--json]
//   build/release/bench/block_ap_bench --only crumb_f32 --hidden 576 [--steps 20]     peak bytes of one form
//
// To measure another instruction set on a newer machine: CRUMB_FORCE_ISA=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2
// ATEN_CPU_CAPABILITY=avx2.
#include <ATen/Parallel.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>

#include "base/memory_info.h"
#include "base/str.h"
#include "kernels/gemm_bf16.h"
#include "kernels/isa.h"
#include "methods/adamw.h"
#include "methods/initialize.h"
#include "nn/composed.h"
#include "nn/decoder_block.h"
#include "nn/functional.h"
#include "nn/host_memory.h"

namespace {

using namespace crumb;
using at::Tensor;

struct Options {
  std::vector<std::int64_t> hidden = {576, 2048};
  std::int64_t tokens = 1024, batch = 2;
  int rounds = 5, threads = 0;
  bool json = false;
  std::string only;  // one form alone: prints its peak memory; a profiler can look at it
  int steps = 2;     // of `only`
};

struct Form {
  const char* name;
  nn::Compute compute;
};

std::vector<Form> forms() {
  std::vector<Form> all = {{"composed_eager", {nn::Precision::kF32, false, true}},
                           {"composed_sdpa", {nn::Precision::kF32, false, false}},
                           {"crumb_f32", {nn::Precision::kF32, true, false}}};
  if (kernels::has_fast_gemm_bf16()) all.push_back({"crumb_bf16", {nn::Precision::kBf16, true, false}});
  return all;
}

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

// The library's own optimizer arithmetic over all parameters, as the composed forms take it.
struct ComposedAdamW {
  struct Slot {
    Tensor w, m, v;
  };
  std::vector<Slot> slots;
  std::int64_t steps = 0;
  void step(double lr) {
    ++steps;
    for (Slot& s : slots) {
      nn::composed::adamw_step(s.w, s.w.grad(), s.m, s.v, steps, lr, {});
      s.w.mutable_grad() = Tensor();
    }
  }
};

// One block with its optimizer; step() is one Block-AP step.
class Trainer {
 public:
  Trainer(const Form& form, std::int64_t hidden, const Options& o)
      : form_(form), config_(shape_of(hidden)), block_(config_) {
    nn::use_host_memory(form.compute.fused);  // the composed forms keep the library's allocator
    at::manual_seed(1);
    for (auto& [name, norm] : block_.norms()) *norm = at::ones({hidden});
    for (const model::LinearRole role : model::kLinearRoles) {
      nn::QuantLinear& linear = block_.linear(role);
      const model::LinearShape shape = model::linear_shape(config_, role);
      linear.n = shape.n;
      linear.k = shape.k;
      linear.weight = at::randn({shape.n, shape.k}) * 0.02;
    }
    methods::start_block(block_, {2, 64, quant::Grid::kAsym}, {recipe::InitMethod::kMinMax, 1, 1}, nullptr);
    rope_ = nn::make_rope_table(config_, o.tokens, at::kCPU);
    x_ = at::randn({o.batch, o.tokens, hidden});
    target_ = at::randn({o.batch, o.tokens, hidden});
    std::vector<methods::AdamW::Parameter> parameters;
    const auto add = [&](Tensor& t, std::size_t set) {
      t = t.detach().contiguous().requires_grad_(true);
      if (form_.compute.fused) {
        parameters.push_back({t, set});
      } else {
        composed_.slots.push_back({t, at::zeros_like(t), at::zeros_like(t)});
      }
    };
    for (const model::LinearRole role : model::kLinearRoles) {
      add(block_.linear(role).weight, 1);
      add(block_.linear(role).scale, 0);
      add(block_.linear(role).zero_point, 0);
    }
    for (auto& [name, norm] : block_.norms()) add(*norm, 1);
    if (form_.compute.fused)
      fused_ = std::make_unique<methods::AdamW>(std::move(parameters), nn::AdamWSettings{});
  }
  double step() {
    nn::use_host_memory(form_.compute.fused);
    const Tensor loss = nn::mse_loss(block_.forward(x_, rope_, form_.compute), target_, form_.compute);
    if (fused_) {
      fused_->backward_and_step(loss, {1e-4, 2e-5});
    } else {
      loss.backward();
      composed_.step(2e-5);
    }
    return loss.item<double>();
  }

 private:
  Form form_;
  model::ModelConfig config_;
  nn::DecoderBlock block_;
  nn::RopeTable rope_;
  Tensor x_, target_;
  std::unique_ptr<methods::AdamW> fused_;
  ComposedAdamW composed_;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Peak of a child process over what it had before the block was made.
double child_peak(const char* self, const Form& form, std::int64_t hidden, const Options& o) {
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

int main(int argc, char** argv) {
  const Options o = parse(argc, argv);
  nn::set_threads(o.threads);
  if (!o.only.empty()) {
    for (const Form& form : forms()) {
      if (o.only != form.name) continue;
      at::ones({64, 64}).mm(at::ones({64, 64}));  // libraries are up
      const double before = static_cast<double>(resident_bytes());
      Trainer trainer(form, o.hidden.front(), o);
      for (int step = 0; step < o.steps; ++step) trainer.step();
      std::printf("%.0f\n", static_cast<double>(peak_resident_bytes()) - before);
    }
    return 0;
  }
  std::printf(
      "%sisa %s (limit %s), threads %d, %lld x %lld tokens, w2g64, medians of %d interleaved rounds\n",
      o.json ? "# " : "", kernels::machine_isas().c_str(),
      std::string(kernels::to_string(kernels::isa_limit())).c_str(), at::get_num_threads(),
      static_cast<long long>(o.batch), static_cast<long long>(o.tokens), o.rounds);
  for (const std::int64_t hidden : o.hidden) {
    std::vector<std::unique_ptr<Trainer>> trainers;
    std::map<std::string, std::vector<double>> times;
    for (const Form& form : forms()) trainers.push_back(std::make_unique<Trainer>(form, hidden, o));
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
    for (const Form& form : forms()) memory[form.name] = child_peak(argv[0], form, hidden, o);
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
