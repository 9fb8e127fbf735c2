// SignRound on a decoder block, as AutoRound runs it: the seven linears together, against the block's output.
// arXiv:2309.05516 algorithm 1.
#pragma once
#include <array>
#include <functional>
#include <vector>

#include "calib/activation_store.h"
#include "methods/initialize.h"
#include "methods/signround/signround.h"
#include "nn/decoder_block.h"

namespace crumb::methods::signround {

struct BlockOptions {
  Options rounding{};
  std::int64_t batch = 8;     // windows of an iteration, drawn without repetition until too few are left
  std::uint64_t seed = 42;    // of the order of windows
  double token_cap = 0;       // of the loss (nn::mse_loss)
  bool search_start = false;  // ranges start at search_ranges()
  const InputEnergies* energies =
      nullptr;  // of the block's inputs, which weigh its errors; nullptr: all ones
};

struct BlockStep {
  double loss = 0;  // of the batch before the update
  double lr = 0;    // of the offsets
};

struct BlockResult {
  std::vector<BlockStep> steps;
  std::int64_t best_iteration = 0;                // least batch loss; its parameters made the codes
  bool finite = true;                             // false: stopped at the first loss that was NaN or infinite
  std::array<quant::QuantizedLinear, 7> linears;  // by LinearRole; empty unless finite
};

/// Trains rounding offsets and ranges of the block's linears so that its output on `train.inputs` (the
/// quantized-prefix stream) comes near `train.targets`. Norms and weights stay. Each iteration sees `batch`
/// windows of a shuffled order that is drawn again when fewer are left.
///
/// block    linears in state kFloat (CRUMB_CHECK); as it was on return, also after an exception: the codes
/// are
///          the caller's to place
/// on_step  called after every step; may throw to stop; may be empty
/// Throws InvalidArgument when batch is below 1 or above the windows, or the grid does not fit a linear.
/// Deterministic for a fixed number of threads. Memory: the Trainer's four weights' sizes, and one more for
/// the graph.
BlockResult train_block(nn::DecoderBlock& block, const calib::BlockBatches& train, const nn::RopeTable& rope,
                        const quant::AffineSpec& spec, const BlockOptions& options,
                        const nn::Compute& compute, const at::Device& device,
                        const std::function<void(std::int64_t, const BlockStep&)>& on_step);

}  // namespace crumb::methods::signround
