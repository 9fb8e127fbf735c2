// What a checkpoint can become in other people's formats, and how it gets there. docs/formats/support.md.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/checkpoint.h"
#include "io/gguf.h"

namespace crumb::formats {

struct ExportOptions {
  /// Upper limit of one shard's tensor data; formats of one file ignore it.
  std::int64_t shard_bytes = 5'000'000'000;
  /// Store a linear that does not fit without loss at the nearest that the format can hold. Otherwise it is
  /// refused. In formats of many types (GGUF) also where the nearest is smaller than the one without loss.
  bool requantize = false;
  /// Embedding and head where a format quantizes them or chooses their dtype; empty: the format's own choice.
  /// GGUF: "Q8_0", "F16", "BF16", "F32".
  std::string head_type;
  /// Metadata of the tokenizer, for formats that carry it inside (GGUF); made by the data room.
  std::vector<std::pair<std::string, io::GgufValue>> tokenizer;
  /// Companion files by name in place of the source's, for sources that have none (a GGUF file's
  /// tokenizer.json).
  std::map<std::string, std::string> texts;
  /// Called after each tensor with what was written and what there is; may be empty.
  std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)> progress;
};

/// What becomes of one linear.
struct LinearFit {
  std::string linear;     // "model.layers.3.mlp.down_proj"
  std::string stored_as;  // the format's own name: "Q2_0", "4 bits"; empty where nothing fits
  bool lossless = false;  // codes times scales are kept exactly
  std::string reason;     // why not, or why in no smaller type, with figures
};

struct ExportReport {
  std::int64_t tensor_bytes = 0, file_bytes = 0, shards = 0;
  /// Linears stored with loss (requantize), each with the relative error ||w_hat - w'|| / ||w_hat||.
  std::vector<std::pair<LinearFit, double>> lossy;
};

/// Asks a format about the linears of one source, one after the other.
class FitJudge {
 public:
  virtual ~FitJudge() = default;
  /// The next block linear, in the order of block_linears(); `codes` null: it is floats.
  virtual void add(const std::string& linear, const quant::QuantizedLinear* codes) = 0;
  /// Of all that were added.
  virtual std::vector<LinearFit> finish() = 0;
};

/// One format. Stateless.
class Exporter {
 public:
  virtual ~Exporter() = default;
  /// As `crumb export --to` spells it.
  virtual std::string_view name() const = 0;
  /// Who loads it, for lists: "GPTQModel, transformers".
  virtual std::string_view clients() const = 0;
  /// What whoever loads the result must know; empty for most.
  virtual std::string_view note() const { return {}; }
  virtual bool writes_directory() const = 0;
  /// Why no model of this structure can be written, whatever its weights; empty for those that can.
  virtual std::string unfit_structure(const model::ModelConfig&) const { return {}; }
  /// What of a source's rounded activations the format has no words for ("a8kv8"): whoever loads the result
  /// computes with floats there. Empty: it says all.
  virtual std::string lost_activations(const quant::ActivationScheme& scheme) const {
    return quant::scheme_name(scheme);
  }
  /// For a source that outlives it.
  virtual std::unique_ptr<FitJudge> judge(const Checkpoint& source) const = 0;
  /// What fits_of() says for this format alone.
  std::vector<LinearFit> fits(const Checkpoint& source) const;
  /// Writes into the existing, empty `output` (a directory), or to the file `output`; the caller owns the
  /// atomic name and commits it. Memory: the bytes of one tensor, and buffers. Throws Unsupported, naming
  /// the linears and the cause, when something does not fit and requantize is off, before anything is
  /// written.
  virtual ExportReport write(const Checkpoint& source, const std::filesystem::path& output,
                             const ExportOptions& options) const = 0;
};

/// Every block linear of the source, in order, in each of the formats; each linear is read once.
std::vector<std::vector<LinearFit>> fits_of(const Checkpoint& source,
                                            std::span<const Exporter* const> formats);

/// In the order of lists.
std::span<const Exporter* const> exporters();
/// Throws InvalidArgument naming the known ones.
const Exporter& find_exporter(std::string_view name);

}  // namespace crumb::formats
