// The activation streams of a run and how they move from block to block.
#pragma once
#include "calib/activation_store.h"
#include "data/windows.h"
#include "nn/causal_lm.h"

namespace crumb::pipeline {

/// A store filled with the embeddings of all windows.
calib::ActivationStore embed_windows(const nn::CausalLm& shell, const data::TokenWindows& windows, const calib::StoreOptions& options);

/// store <- block(store), `batch` windows at a time.
void advance(calib::ActivationStore& store, const nn::DecoderBlock& block, std::int64_t batch, const nn::RopeTable& rope, const nn::Compute& compute,
             const at::Device& device);

/// block(store) as a store of its own.
calib::ActivationStore output_stream(const calib::ActivationStore& store, const nn::DecoderBlock& block, std::int64_t batch, const nn::RopeTable& rope,
                                     const nn::Compute& compute, const at::Device& device, const calib::StoreOptions& options);

/// What the tokens of a block's output look like: mean squares over the hidden dimension.
struct TokenStatistics {
  double largest_energy = 0, median_energy = 0;  // of the full-precision output
  double loss = 0;                               // mean squared error of the quantized stream
  double largest_token_loss_share = 0;           // part of the squared error that the one token with the largest error makes
};
/// Compares the streams after a block.
TokenStatistics compare_streams(const calib::ActivationStore& quantized, const calib::ActivationStore& full_precision, std::int64_t batch);

}  // namespace crumb::pipeline
