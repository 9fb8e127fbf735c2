// Hugging Face directories for other programs: what the formats share. A format says what becomes of one
// linear and what its configuration is called; the walk over the tensors, shards and companions are here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "formats/block_codes.h"
#include "formats/exporter.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// What becomes of one linear; decided from its codes before anything is written.
struct LinearPlan {
  enum class How {
    kFloats,   // it holds no codes; copied
    kExact,    // same w_hat: the same codes, complemented ones, cut groups or codes called wider
    kRounded,  // the same codes; scales or weights rounded to the format's floats
    kNearest,  // requantized on `spec`; where that has the linear's bits and groups, only the groups that
               // must be
    kNowhere,  // cannot be stored at all
  };
  std::int64_t n = 0, k = 0;
  How how = How::kFloats;
  quant::AffineSpec spec;  // as stored
  /// Stored with every zero point 2^(bits-1); make_symmetric() where it is not so already.
  bool symmetric = false;
  /// The format's own choice for this linear (MLX: F32 instead of F16; compressed-tensors: bytes instead of
  /// words).
  bool wide = false;
  /// Scales become binary16 numbers (kRounded).
  bool round_scales = false;
  LinearFit fit;
  std::string stored_name;  // the linear in the family's files; fit.linear in most families

  bool has_codes() const { return how != How::kFloats && how != How::kNowhere; }
  bool loses() const { return how == How::kRounded || how == How::kNearest; }
};

/// One tensor of a linear: "qweight".
struct LinearPart {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes =
      {};  // where they are known without packing; pack() leaves this part empty then
};

/// The text of a config.json and the changes that an export makes to it: members are replaced, added or
/// removed, every other byte stays.
class ConfigText {
 public:
  /// Without the members that speak of the source's quantization.
  explicit ConfigText(std::string source);
  void set(std::string_view key, const nlohmann::ordered_json& value);
  /// The dtype that clients compute in, under whichever name the source has for it.
  void set_dtype(std::string_view dtype);
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class DirectoryExporter : public Exporter {
 public:
  bool writes_directory() const final { return true; }
  std::unique_ptr<FitJudge> judge(const Checkpoint& source) const final;
  ExportReport write(const Checkpoint& source, const std::filesystem::path& output,
                     const ExportOptions& options) const final;

 protected:
  /// Of a linear that has codes; fills how, spec, symmetric, wide and fit (but its name). A linear that does
  /// not fit has fit.reason, and how kRounded, kNearest or kNowhere.
  virtual void plan(const quant::QuantizedLinear& linear, LinearPlan& plan) const = 0;
  /// What depends on all linears together, or on the source as a whole.
  virtual void plan_together(const Checkpoint&, std::vector<LinearPlan>&) const {}
  /// Whether a model without any codes can be written.
  virtual bool takes_floats() const { return false; }

  virtual std::vector<LinearPart> parts(const LinearPlan& plan) const = 0;
  /// Bytes of parts(), in their order.
  virtual std::vector<std::vector<std::byte>> pack(const quant::QuantizedLinear& stored,
                                                   const LinearPlan& plan) const = 0;
  /// Relative error of what pack() stores of a linear that loses.
  virtual double loss(const quant::QuantizedLinear& linear, const quant::QuantizedLinear& stored) const;
  /// "format" of the files' metadata.
  virtual std::string_view metadata_format() const { return "pt"; }
  /// Members of config.json; files beside it may be written into `folder`.
  virtual void configure(const Checkpoint& source, const std::vector<LinearPlan>& plans, ConfigText& config,
                         const std::filesystem::path& folder) const = 0;

 private:
  class Judge;
  LinearPlan plan_one(const model::ModelConfig& config, const std::string& name,
                      const quant::QuantizedLinear* codes) const;
  std::vector<LinearPlan> plan_all(const Checkpoint& source) const;
};

/// The form of a linear that a plan stores: w_hat the same for kExact.
quant::QuantizedLinear stored_form(quant::QuantizedLinear linear, const LinearPlan& plan);

/// Sets how, spec and fit for a format that holds every zero point (symmetric false), or 2^(bits-1) alone
/// with scales of either sign (symmetric true). `groups`: the group sizes that clients take, -1 among them
/// for whole rows; empty: any. `multiple`: what N and K must be multiples of. Scales must be binary16
/// numbers.
void plan_grid(const quant::QuantizedLinear& linear, bool symmetric, std::span<const std::int64_t> groups,
               std::int64_t n_multiple, std::int64_t k_multiple, LinearPlan& plan);

/// Bits and group size of most linears; what a configuration states once.
quant::AffineSpec most_common_spec(const std::vector<LinearPlan>& plans);
bool same_codes(const quant::AffineSpec& a, const quant::AffineSpec& b);  // bits and group size
bool all_symmetric(const std::vector<LinearPlan>& plans);
/// Writes a JSON file as people read it.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value);

}  // namespace crumb::formats
