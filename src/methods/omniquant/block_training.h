// Training of one block's quantization parameters: OmniQuant, arXiv:2308.13137 §3.1, eq. (1);
// docs/methods/omniquant.md.
#pragma once
#include <array>
#include <functional>
#include <vector>

#include "calib/activation_store.h"
#include "methods/initialize.h"
#include "methods/omniquant/let.h"
#include "methods/omniquant/lwc.h"
#include "nn/decoder_block.h"

namespace crumb::methods::omniquant {

/// What decides the result of a block. Defaults are those of the authors' program, epochs those of their
/// scripts.
struct Settings {
  Mode mode = Mode::kDefault;
  int weight_bits = 4;
  std::int64_t group_size = -1;
  nn::RangeQuant::Scheme scheme = nn::RangeQuant::Scheme::kAsymmetric;
  int activation_bits = 16;  // inputs of all linears, and queries where keys are quantized; 16: off
  int kv_bits = 16;          // keys and values, as they are cached; the authors use activation_bits
  bool symmetric_activations = false;
  bool lwc = true;
  bool let = false;
  double alpha = 0.5;         // start of the transformation (LetSettings)
  bool up_down = false;       // also transform up -> down; kDefault only
  bool shift = false;         // LetSettings::shift
  bool search_start = false;  // clipping starts at search_lwc(), not start_lwc(); kDefault only
  std::int64_t epochs = 20;
  std::int64_t batch = 1;  // windows per step; divides the number of windows
  double lwc_lr = 1e-2, let_lr = 5e-3;
  double token_cap = 0;   // of the loss (nn::mse_loss)
  bool aug_loss = false;  // also the error against the float block on the quantized-prefix stream
  // kDefault only; kParity takes the windows in their order and the parameters of the last step.
  bool shuffle = true;
  bool keep_best = true;  // the epoch's end (or the start) with the least loss over all validation windows
  std::uint64_t seed = 2;

  WeightQuant weights() const { return {weight_bits, group_size, scheme, mode}; }
  LetSettings transformation() const { return {mode, alpha, up_down, shift}; }
  nn::ActivationQuants activations() const;
};

/// Throws InvalidArgument for numbers out of range or nothing to train, and as let_sites.
void check_settings(const Settings& settings, const model::ModelConfig& config);

/// All trained numbers of a block.
struct BlockParameters {
  LetParameters let;                 // empty without the transformation
  std::array<LwcParameters, 7> lwc;  // by LinearRole; undefined logits without clipping
};

/// `statistics` of the full-precision block's inputs; used with settings.let only and may be null otherwise.
/// `energies` of its inputs weigh the errors of search_start, unless the transformation changes them; null:
/// all are one.
BlockParameters start_parameters(const nn::DecoderBlock& block, const ActivationStatistics* statistics,
                                 const Settings& settings, const InputEnergies* energies = nullptr);

/// What training runs: the float block transformed, its weights fake-quantized, its activation quantizers on.
/// Part of the autograd graph of the parameters. `block` stays as it is.
nn::DecoderBlock quantized_block(const nn::DecoderBlock& block, const BlockParameters& parameters,
                                 const Settings& settings);

/// What one optimizer step did.
struct Step {
  double loss = 0;           // of the batch before the update
  double gradient_norm = 0;  // L2 over all trained tensors
};

struct BlockResult {
  std::vector<Step> steps;
  std::vector<double> epoch_train_loss;  // mean over an epoch's batches, each before its update
  std::vector<double>
      epoch_validation_loss;         // of the parameters after each epoch; empty without validation windows
  double start_validation_loss = 0;  // before the first step; 0 without validation windows
  std::int64_t best_epoch = 0;  // whose parameters were kept, counted from 1; 0: the start. kParity: the last
  bool finite = true;           // false: stopped at the first step whose loss or gradient was NaN or infinite
};

/// Streams of one block, windows in the same order. `second_targets`: the float block's outputs on the
/// inputs, for aug_loss; else null.
struct TrainingData {
  const calib::ActivationStore& inputs;   // quantized-prefix stream X_q
  const calib::ActivationStore& targets;  // full-precision stream after this block
  const calib::ActivationStore* second_targets = nullptr;
};

/// Trains the parameters so that the quantized block's output on `train.inputs` comes near `train.targets`
/// (and, with aug_loss, near `train.second_targets`): mean squared error, AdamW without weight decay,
/// constant learning rates, no clipping; scales are truncated before every step and at the end. The weights
/// do not move.
///
/// validation  may have no windows, or be null: then nothing is validated, and keep_best judges an epoch by
/// its
///             training loss, which speaks of the parameters during it
/// lr_factor   multiplies both learning rates (a retry after a loss that was not finite)
/// on_step     called after every step; may throw to stop
/// parameters  (in, out) are spoiled when the result is not finite, unless keep_best had something to keep.
/// Deterministic for a fixed number of threads.
BlockResult train_block(const nn::DecoderBlock& block, BlockParameters& parameters, const TrainingData& train,
                        const TrainingData* validation, const nn::RopeTable& rope, const Settings& settings,
                        double lr_factor, const nn::Compute& compute, const at::Device& device,
                        const std::function<void(std::int64_t, const Step&)>& on_step);

/// Applies the transformation to the block's norms, weights and biases, in f32, and switches its activation
/// quantizers on. The block then has float weights that are about to be quantized.
void fuse_transformation(nn::DecoderBlock& block, const BlockParameters& parameters,
                         const Settings& settings);

/// The codes of a fused block's linears, by LinearRole.
std::array<StoredLwc, 7> quantize_fused(const nn::DecoderBlock& fused, const BlockParameters& parameters,
                                        const Settings& settings, bool scale_f16);

}  // namespace crumb::methods::omniquant
