// One activation stream: the hidden states of all windows at one place of the network, in memory or in a
// mapped file.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "nn/torch.h"

namespace crumb::calib {

/// What a stream keeps of each value. Never f16: massive activations pass 65504 in real models
/// (docs/numerics.md).
enum class StoreDtype { kF32, kBf16 };

struct StoreOptions {
  StoreDtype dtype = StoreDtype::kF32;
  std::filesystem::path directory;  // where mapped files go
  std::int64_t ram_limit_bytes =
      0;  // a store larger than this becomes a mapped file; 0: every store is in memory
};

/// [windows, tokens, hidden_size], read and written by ranges of windows. A mapped file is unlinked at once,
/// so nothing is left behind whatever ends the process; disk space is checked and reserved when the store is
/// made (throws Io).
class ActivationStore {
 public:
  ActivationStore(std::int64_t windows, std::int64_t tokens, std::int64_t hidden_size,
                  const StoreOptions& options);
  ~ActivationStore();
  ActivationStore(ActivationStore&&) noexcept;
  ActivationStore& operator=(ActivationStore&&) noexcept;

  std::int64_t windows() const;
  std::int64_t tokens() const;
  std::int64_t hidden_size() const;
  bool mapped() const;

  /// Windows [begin, begin + count) as f32 [count, tokens, hidden_size] on the CPU. The tensor may share the
  /// store's memory (f32 in memory): it is valid until the next write() to these windows.
  at::Tensor read(std::int64_t begin, std::int64_t count) const;
  /// These windows, in this order, as read() gives several in a row.
  at::Tensor read_windows(std::span<const std::int64_t> windows) const;
  /// x [count, tokens, hidden_size] f32, any device.
  void write(std::int64_t begin, const at::Tensor& x);

  static std::int64_t bytes_needed(std::int64_t windows, std::int64_t tokens, std::int64_t hidden_size,
                                   StoreDtype dtype);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Inputs and targets of the current block, same windows in the same order.
struct BlockBatches {
  const ActivationStore& inputs;   // quantized-prefix stream X_q
  const ActivationStore& targets;  // full-precision stream after this block
};

}  // namespace crumb::calib
