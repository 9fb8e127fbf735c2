// One Block-AP optimizer step: the authors' composed form with eager attention, the same with SDPA, and
// crumb's. build/release/bench/block_ap_bench; options: training_step.h.
//
// To measure another instruction set on a newer machine: CRUMB_FORCE_ISA=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2
// ATEN_CPU_CAPABILITY=avx2.
#include "methods/adamw.h"
#include "methods/initialize.h"
#include "nn/decoder_block.h"
#include "nn/functional.h"
#include "nn/host_memory.h"
#include "train/training_step.h"

namespace {

using namespace crumb;
using at::Tensor;

// One block with its optimizer; step() is one Block-AP step.
class BlockApTrainer final : public bench::Trainer {
 public:
  BlockApTrainer(const bench::Form& form, std::int64_t hidden, const bench::Options& o)
      : form_(form), config_(bench::shape_of(hidden)), block_(config_) {
    nn::use_host_memory(form.compute.fused);  // the composed forms keep the library's allocator
    at::manual_seed(1);
    for (auto& [name, norm] : block_.norms()) *norm = at::ones({hidden});
    for (const model::LinearRole role : block_.roles()) {
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
        composed_.add(t);
      }
    };
    for (const model::LinearRole role : block_.roles()) {
      add(block_.linear(role).weight, 1);
      add(block_.linear(role).scale, 0);
      add(block_.linear(role).zero_point, 0);
    }
    for (auto& [name, norm] : block_.norms()) add(*norm, 1);
    if (form_.compute.fused)
      fused_ = std::make_unique<methods::AdamW>(std::move(parameters), nn::AdamWSettings{});
  }
  void step() override {
    nn::use_host_memory(form_.compute.fused);
    const Tensor loss = nn::mse_loss(block_.forward(x_, rope_, form_.compute), target_, form_.compute);
    if (fused_) {
      fused_->backward_and_step(loss, {1e-4, 2e-5});
    } else {
      loss.backward();
      composed_.step(2e-5);
    }
  }

 private:
  bench::Form form_;
  model::ModelConfig config_;
  nn::DecoderBlock block_;
  nn::RopeTable rope_;
  Tensor x_, target_;
  std::unique_ptr<methods::AdamW> fused_;
  bench::ComposedAdamW composed_;
};

}  // namespace

int main(int argc, char** argv) {
  return bench::run_step_bench(
      argc, argv, "Block-AP w2g64",
      [](const bench::Form& form, std::int64_t hidden, const bench::Options& options) {
        return std::make_unique<BlockApTrainer>(form, hidden, options);
      });
}
