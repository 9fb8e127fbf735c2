// What the benchmarks of one training step share: forms of the arithmetic, block shapes, interleaved rounds
// in one process, and the peak memory of each form in a process of its own.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "methods/adamw.h"
#include "nn/decoder_block.h"

namespace crumb::bench {

struct Options {
  std::vector<std::int64_t> hidden = {576, 2048};
  std::int64_t tokens = 1024, batch = 2;
  int rounds = 5, threads = 0;
  bool json = false;
  std::string only;  // one form alone: prints its peak memory; a profiler can look at it
  int steps = 2;     // of `only`
};

/// How a step computes: composed of ATen's operators with eager attention, the same with SDPA, or crumb's.
struct Form {
  const char* name;
  nn::Compute compute;
};

/// AdamW composed of ATen's operators, as the composed forms take it.
struct ComposedAdamW {
  struct Slot {
    at::Tensor w, m, v;
  };
  std::vector<Slot> slots;
  std::int64_t steps = 0;
  void add(const at::Tensor& w);
  void step(double lr);
};

/// One float block of random weights, random windows, and the form's optimizer. A subject adds what it
/// trains, then calls ready().
class Trainer {
 public:
  Trainer(const Form& form, std::int64_t hidden, const Options& options);
  virtual ~Trainer() = default;
  virtual void step() = 0;

 protected:
  bool fused() const { return form_.compute.fused; }
  /// Makes `t` a leaf that the optimizer moves; `set` as AdamW::Parameter's.
  void train(at::Tensor& t, std::size_t set);
  void ready();
  at::Tensor loss(const nn::DecoderBlock& block) const;

  Form form_;
  nn::DecoderBlock block_;
  nn::RopeTable rope_;
  at::Tensor x_, target_;
  std::unique_ptr<methods::AdamW> fused_;  // of crumb's forms
  ComposedAdamW composed_;                 // of the others

 private:
  std::vector<methods::AdamW::Parameter> parameters_;
};
using MakeTrainer =
    std::function<std::unique_ptr<Trainer>(const Form& form, std::int64_t hidden, const Options& options)>;

/// The program: prints a line for each hidden size and form. `subject` is what a step trains: "w2g64";
/// `own_arguments` make a process of its own the same subject.
///
///   [--hidden 576,2048] [--tokens 1024] [--batch 2] [--rounds 5] [--threads N] [--json]
///   --only crumb_f32 --hidden 576 [--steps 20]     peak bytes of one form
int run_step_bench(int argc, char** argv, const std::string& subject, const MakeTrainer& make,
                   const std::string& own_arguments = "");

}  // namespace crumb::bench
