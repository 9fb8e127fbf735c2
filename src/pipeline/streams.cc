#include "pipeline/streams.h"

#include <algorithm>

#include "base/interrupt.h"

namespace crumb::pipeline {

calib::ActivationStore embed_windows(const nn::CausalLm& shell, const data::TokenWindows& windows,
                                     const calib::StoreOptions& options) {
  const at::NoGradGuard no_grad;
  calib::ActivationStore store(windows.rows, std::max<std::int64_t>(windows.columns, 1),
                               shell.config.hidden_size, options);
  for (std::int64_t row = 0; row < windows.rows; ++row) {
    store.write(row, shell.embed(nn::ids_tensor(windows.row(row), 1, windows.columns, shell.device())));
  }
  return store;
}

namespace {

// to <- block(from); they may be one store.
void pass(const calib::ActivationStore& from, calib::ActivationStore& to, const nn::DecoderBlock& block,
          std::int64_t batch, const nn::RopeTable& rope, const nn::Compute& compute,
          const at::Device& device) {
  const at::NoGradGuard no_grad;
  for (std::int64_t begin = 0; begin < from.windows(); begin += batch) {
    throw_if_interrupted("pipeline.streams");
    const std::int64_t count = std::min(batch, from.windows() - begin);
    to.write(begin, block.forward(from.read(begin, count).to(device), rope, compute));
  }
}

}  // namespace

void advance(calib::ActivationStore& store, const nn::DecoderBlock& block, std::int64_t batch,
             const nn::RopeTable& rope, const nn::Compute& compute, const at::Device& device) {
  pass(store, store, block, batch, rope, compute, device);
}

calib::ActivationStore output_stream(const calib::ActivationStore& store, const nn::DecoderBlock& block,
                                     std::int64_t batch, const nn::RopeTable& rope,
                                     const nn::Compute& compute, const at::Device& device,
                                     const calib::StoreOptions& options) {
  calib::ActivationStore out(store.windows(), store.tokens(), store.hidden_size(), options);
  pass(store, out, block, batch, rope, compute, device);
  return out;
}

TokenStatistics compare_streams(const calib::ActivationStore& quantized,
                                const calib::ActivationStore& full_precision, std::int64_t batch) {
  std::vector<double> target, error;
  for (std::int64_t begin = 0; begin < quantized.windows(); begin += batch) {
    const std::int64_t count = std::min(batch, quantized.windows() - begin);
    const nn::TokenEnergies energies =
        nn::token_energies(quantized.read(begin, count), full_precision.read(begin, count));
    target.insert(target.end(), energies.target.begin(), energies.target.end());
    error.insert(error.end(), energies.error.begin(), energies.error.end());
  }
  TokenStatistics statistics;
  if (target.empty()) return statistics;
  const double hidden = static_cast<double>(quantized.hidden_size());
  double total = 0;
  for (const double e : error) total += e;
  statistics.loss = total / hidden / static_cast<double>(error.size());
  statistics.largest_token_loss_share = total > 0 ? *std::max_element(error.begin(), error.end()) / total : 0;
  statistics.largest_energy = *std::max_element(target.begin(), target.end()) / hidden;
  const auto middle = target.begin() + static_cast<std::ptrdiff_t>(target.size() / 2);
  std::nth_element(target.begin(), middle, target.end());
  statistics.median_energy = *middle / hidden;
  return statistics;
}

}  // namespace crumb::pipeline
