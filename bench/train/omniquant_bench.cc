// One step of OmniQuant on a block: learned clipping of every weight (w2g64), and with --w4a4 also the
// transformation and 4-bit activations. The composed forms are what autograd makes of the paper's equations.
// build/release/bench/omniquant_bench [--w4a4]; other options: training_step.h.
#include <algorithm>
#include <cstring>

#include "methods/omniquant/block_training.h"
#include "nn/composed.h"
#include "train/training_step.h"

namespace {

using namespace crumb;
namespace omniquant = methods::omniquant;

omniquant::Settings settings_of(bool activations) {
  omniquant::Settings s;
  s.weight_bits = activations ? 4 : 2;
  s.group_size = activations ? -1 : 64;
  s.lwc = true;
  s.let = activations;
  if (activations) s.activation_bits = s.kv_bits = 4;
  return s;
}

class OmniQuantTrainer final : public bench::Trainer {
 public:
  OmniQuantTrainer(const bench::Form& form, std::int64_t hidden, const bench::Options& o, bool activations)
      : Trainer(form, hidden, o), settings_(settings_of(activations)) {
    methods::ActivationStatistics statistics;
    for (std::size_t i = 0; i < statistics.inputs.size(); ++i) {
      const std::int64_t k = i == 3 ? block_.config().intermediate_size : hidden;
      statistics.inputs[i] = {at::rand({k}) + 1, -at::rand({k}) - 1, at::rand({k}), at::rand({k})};
    }
    parameters_ = omniquant::start_parameters(block_, &statistics, settings_);
    for (omniquant::LetPair& pair : parameters_.let) train(pair.scale, 0);
    for (omniquant::LwcParameters& linear : parameters_.lwc) {
      train(linear.up, 1);
      train(linear.low, 1);
    }
    ready();
  }

  void step() override {
    loss(fused() ? omniquant::quantized_block(block_, parameters_, settings_) : composed_block()).backward();
    fused() ? fused_->step({5e-3, 1e-2}) : composed_.step(1e-2);
  }

 private:
  nn::DecoderBlock composed_block() const {
    nn::DecoderBlock out = omniquant::transformed(block_, parameters_.let);
    for (const model::LinearRole role : out.roles()) {
      nn::QuantLinear& linear = out.linear(role);
      const omniquant::LwcParameters& lwc = parameters_.lwc[static_cast<std::size_t>(role)];
      const std::int64_t group = settings_.group_size == -1 ? linear.k : settings_.group_size;
      linear.weight = nn::composed::range_fake_quant(
                          linear.weight.reshape({-1, group}), at::sigmoid(lwc.up), at::sigmoid(lwc.low),
                          {settings_.weight_bits, settings_.scheme, true, omniquant::kMinScale})
                          .view({linear.n, linear.k});
    }
    out.activations = settings_.activations();
    return out;
  }

  omniquant::Settings settings_;
  omniquant::BlockParameters parameters_;
};

}  // namespace

int main(int argc, char** argv) {
  bool activations = false;
  const auto end = std::remove_if(argv + 1, argv + argc, [&](const char* word) {
    const bool mine = std::strcmp(word, "--w4a4") == 0;
    activations |= mine;
    return mine;
  });
  return bench::run_step_bench(
      static_cast<int>(end - argv), argv,
      activations ? "OmniQuant W4A4, LWC and LET" : "OmniQuant w2g64, LWC",
      [=](const bench::Form& form, std::int64_t hidden, const bench::Options& options) {
        return std::make_unique<OmniQuantTrainer>(form, hidden, options, activations);
      },
      activations ? "--w4a4" : "");
}
