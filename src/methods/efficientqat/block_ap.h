// Block-AP: block-wise training of all parameters. EfficientQAT, arXiv:2407.11062 §3.2;
// docs/methods/efficientqat.md.
#pragma once
#include <functional>
#include <vector>

#include "calib/activation_store.h"
#include "nn/decoder_block.h"
#include "recipe/recipe.h"

namespace crumb::methods::efficientqat {

/// What one optimizer step did.
struct BlockApStep {
  double loss = 0;           // mean squared error of the batch before the update
  double gradient_norm = 0;  // L2 over all trained tensors
  double quant_lr = 0, weight_lr = 0;
};

struct BlockApResult {
  std::vector<BlockApStep> steps;
  std::vector<double> epoch_train_loss;       // mean over an epoch's batches
  std::vector<double> epoch_validation_loss;  // empty without validation windows
  bool finite =
      true;  // false: stopped at the first step whose loss was NaN or infinite; the block is spoiled
};

/// Trains the weights, norms, scales and zero points of a fake-quant block so that its output on
/// `train.inputs` (the quantized-prefix stream) comes near `train.targets` (the full-precision block on the
/// full-precision stream): mean squared error, AdamW, two learning rates, windows in their order, no
/// clipping. `validation` may have no windows.
///
/// token_cap  of the loss (nn::mse_loss); 0: plain, as the paper's
/// lr_factor  multiplies both learning rates (a retry after a loss that was not finite)
/// on_step    called after every step; may throw to stop
/// Deterministic for a fixed number of threads.
BlockApResult train_block(nn::DecoderBlock& block, const calib::BlockBatches& train,
                          const calib::BlockBatches& validation, const nn::RopeTable& rope,
                          const recipe::BlockAp& how, double token_cap, double lr_factor,
                          const nn::Compute& compute, const at::Device& device,
                          const std::function<void(std::int64_t, const BlockApStep&)>& on_step);

}  // namespace crumb::methods::efficientqat
