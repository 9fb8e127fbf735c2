// One Block-AP optimizer step: the authors' composed form with eager attention, the same with SDPA, and
// crumb's. build/release/bench/block_ap_bench; options: training_step.h.
//
// To measure another instruction set on a newer machine: CRUMB_FORCE_ISA=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2
// ATEN_CPU_CAPABILITY=avx2.
#include "methods/initialize.h"
#include "train/training_step.h"

namespace {

using namespace crumb;

// step() is one Block-AP step.
class BlockApTrainer final : public bench::Trainer {
 public:
  BlockApTrainer(const bench::Form& form, std::int64_t hidden, const bench::Options& o)
      : Trainer(form, hidden, o) {
    methods::start_block(block_, {2, 64, quant::Grid::kAsym}, {recipe::InitMethod::kMinMax, 1, 1}, nullptr);
    for (const model::LinearRole role : block_.roles()) {
      train(block_.linear(role).weight, 1);
      train(block_.linear(role).scale, 0);
      train(block_.linear(role).zero_point, 0);
    }
    for (auto& [name, norm] : block_.norms()) train(*norm, 1);
    ready();
  }

  void step() override {
    const at::Tensor error = loss(block_);
    if (fused()) {
      fused_->backward_and_step(error, {1e-4, 2e-5});
    } else {
      error.backward();
      composed_.step(2e-5);
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  return bench::run_step_bench(
      argc, argv, "Block-AP w2g64",
      [](const bench::Form& form, std::int64_t hidden, const bench::Options& options) {
        return std::make_unique<BlockApTrainer>(form, hidden, options);
      });
}
