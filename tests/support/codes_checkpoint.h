// A tiny model whose linears are codes of our choice: what exporters are tested with.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "base/rng.h"
#include "formats/checkpoint.h"
#include "formats/export/faces.h"
#include "support/tiny_model.h"

namespace crumb::test {

/// Which zero points random_codes() gives.
enum class Zeros { kAny, kMiddleTwo, kMiddle };

/// Random codes; scales are binary16 numbers, of either sign with kMiddle.
inline quant::QuantizedLinear random_codes(std::int64_t n, std::int64_t k, const quant::AffineSpec& spec,
                                           Zeros zeros, std::uint64_t seed) {
  SplitMix64 random(seed);
  quant::QuantizedLinear linear{n, k, spec, {}, {}, {}};
  linear.codes.resize(static_cast<std::size_t>(n * k));
  for (std::uint8_t& code : linear.codes)
    code = static_cast<std::uint8_t>(random.next() >> 40) & static_cast<std::uint8_t>(spec.max_code());
  const int half = 1 << (spec.bits - 1);
  for (std::int64_t i = 0; i < n * spec.groups(k); ++i) {
    const auto r = static_cast<int>(random.next() >> 40);
    const float scale = round_to_f16(static_cast<float>((0.25 + random.uniform()) / (half * 8)));
    linear.scales.push_back(zeros == Zeros::kMiddle && (r & 512) != 0 ? -scale : scale);
    linear.zero_points.push_back(static_cast<std::uint8_t>(zeros == Zeros::kAny ? 1 + r % spec.max_code()
                                                           : zeros == Zeros::kMiddleTwo ? half - (r & 1)
                                                                                        : half));
  }
  return linear;
}

class CodesCheckpoint final : public formats::Checkpoint {
 public:
  using Linears = std::map<std::string, quant::QuantizedLinear>;

  /// `folder` holds a float model; linears that `linears` does not name stay floats.
  CodesCheckpoint(const std::filesystem::path& folder, Linears linears)
      : floats_(formats::Checkpoint::open(folder)), linears_(std::move(linears)) {}

  formats::CheckpointKind kind() const override { return formats::CheckpointKind::kPacked; }
  const std::filesystem::path& path() const override { return floats_->path(); }
  const model::ModelConfig& config() const override { return floats_->config(); }
  std::string config_json() const override { return floats_->config_json(); }
  bool has(std::string_view name) const override {
    return floats_->has(name) && find(linear_of(name)) == nullptr;
  }
  std::vector<std::int64_t> shape(std::string_view name) const override { return floats_->shape(name); }
  DType float_dtype(std::string_view name) const override { return floats_->float_dtype(name); }
  std::vector<float> read_f32(std::string_view name) const override { return floats_->read_f32(name); }
  std::optional<quant::QuantizedLinear> read_packed(std::string_view linear) const override {
    const quant::QuantizedLinear* found = find(linear);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  std::optional<quant::AffineSpec> packed_spec() const override {
    return linears_.empty() ? std::nullopt : std::optional(linears_.begin()->second.spec);
  }
  std::optional<quant::AffineSpec> packed_spec_of(std::string_view linear) const override {
    const quant::QuantizedLinear* found = find(linear);
    return found == nullptr ? std::nullopt : std::optional(found->spec);
  }
  std::optional<quant::ActivationScheme> activation_scheme() const override { return activations; }
  int weight_bits() const override { return grid_bits; }
  std::int64_t tensor_bytes() const override { return floats_->tensor_bytes(); }
  std::string describe() const override { return "codes"; }
  std::vector<std::filesystem::path> companion_files() const override { return floats_->companion_files(); }

  std::optional<quant::ActivationScheme> activations;  // dynamic ones: there are no grids
  int grid_bits = 0;

 private:
  static std::string_view linear_of(std::string_view name) {
    return name.ends_with(".weight") ? name.substr(0, name.size() - 7) : name;
  }
  const quant::QuantizedLinear* find(std::string_view linear) const {
    const auto found = linears_.find(std::string(linear));
    return found == linears_.end() ? nullptr : &found->second;
  }
  std::unique_ptr<formats::Checkpoint> floats_;
  Linears linears_;
};

/// Codes for every block linear of a float model, at `spec`, or where `spec_of` gives another spec for a
/// name.
inline CodesCheckpoint::Linears random_linears(const std::filesystem::path& folder,
                                               const quant::AffineSpec& spec, Zeros zeros,
                                               const std::map<std::string, quant::AffineSpec>& spec_of = {}) {
  const auto floats = formats::Checkpoint::open(folder);
  CodesCheckpoint::Linears linears;
  std::uint64_t seed = 1;
  for (std::int64_t block = 0; block < floats->config().num_hidden_layers; ++block) {
    for (const model::LinearRole role : model::kLinearRoles) {
      const std::string name = model::linear_name(block, role);
      const auto [n, k] = model::linear_shape(floats->config(), role);
      const auto own = spec_of.find(name);
      linears[name] = random_codes(n, k, own == spec_of.end() ? spec : own->second, zeros, seed++);
    }
  }
  return linears;
}

/// Writes `source` with `exporter` into a new folder and gives its report.
inline formats::ExportReport export_to(const formats::Exporter& exporter, const formats::Checkpoint& source,
                                       const std::filesystem::path& folder,
                                       const formats::ExportOptions& options = {}) {
  std::filesystem::create_directories(folder);
  return exporter.write(source, folder, options);
}

}  // namespace crumb::test
