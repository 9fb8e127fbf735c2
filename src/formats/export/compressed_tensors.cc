#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/str.h"
#include "formats/compressed_tensors.h"
#include "formats/export/directory.h"
#include "formats/export/faces.h"
#include "io/safetensors.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;

class CompressedExporter final : public DirectoryExporter {
 public:
  explicit CompressedExporter(bool symmetric) : symmetric_(symmetric) {}
  std::string_view name() const override {
    return symmetric_ ? "compressed-tensors" : "compressed-tensors-asym";
  }
  std::string_view clients() const override {
    return symmetric_ ? "transformers, vLLM (compressed-tensors 0.18 and later at 3 bits)"
                      : "transformers with CompressedTensorsConfig(dequantize=True)";
  }
  std::string_view note() const override {
    if (symmetric_) return {};
    return "compressed-tensors 0.18 to 0.20 stop with a shape mismatch at packed zero points: load with "
           "transformers' CompressedTensorsConfig(dequantize=True), or at 2, 4 and 8 bits with "
           "compressed-tensors 0.17.1; vLLM takes zero points at 4 and 8 bits only";
  }

  /// Keys and values are FP8 or floats in the format's readers; one grid a channel is unknown to them.
  std::string lost_activations(const quant::ActivationScheme& scheme) const override {
    const bool known = symmetric_ && (scheme.inputs == quant::Granularity::kPerToken ||
                                      (scheme.inputs == quant::Granularity::kPerTensor && scheme.symmetric));
    if (!known) return quant::scheme_name(scheme);
    return scheme.kv_bits < 16 ? cat("kv", scheme.kv_bits) : std::string();
  }

 protected:
  void plan(const quant::QuantizedLinear& linear, LinearPlan& plan) const override {
    plan_grid(linear, symmetric_, {}, 1, 1, plan);
  }

  /// W8A8: a byte a code, which vLLM multiplies as integers.
  void plan_together(const Checkpoint& source, std::vector<LinearPlan>& plans) const override {
    const auto scheme = recorded(source);
    const bool bytes =
        scheme && scheme->bits == 8 && std::all_of(plans.begin(), plans.end(), [](const LinearPlan& plan) {
          return !plan.has_codes() || (plan.spec.bits == 8 && plan.spec.group_of(plan.k) == plan.k);
        });
    for (LinearPlan& plan : plans) plan.wide = bytes && plan.has_codes();
  }

  std::vector<LinearPart> parts(const LinearPlan& plan) const override {
    using quant::WordLayout;
    const std::int64_t groups = plan.spec.groups(plan.k);
    if (plan.wide)
      return {{"weight", DType::kI8, {plan.n, plan.k}}, {"weight_scale", DType::kF16, {plan.n, groups}}};
    const std::int64_t shape[] = {plan.n, plan.k};
    std::vector<LinearPart> parts = {
        {"weight_packed",
         DType::kI32,
         {plan.n, quant::packed_words(plan.k, plan.spec.bits, WordLayout::kDense)}},
        {"weight_scale", DType::kF16, {plan.n, groups}, {}},
        {"weight_shape", DType::kI64, {2}, io::bytes_of(std::span<const std::int64_t>(shape))}};
    if (!symmetric_)
      parts.push_back({"weight_zero_point",
                       DType::kI32,
                       {quant::packed_words(plan.n, plan.spec.bits, WordLayout::kDense), groups}});
    return parts;
  }

  std::vector<std::vector<std::byte>> pack(const quant::QuantizedLinear& stored,
                                           const LinearPlan& plan) const override {
    if (plan.wide) {
      const CompressedBytes bytes = bytes_compressed(stored);
      return {io::bytes_of(std::span(bytes.codes)), io::convert_from_f32(bytes.scales, DType::kF16)};
    }
    const CompressedParts packed = pack_compressed(stored, symmetric_);
    std::vector<std::vector<std::byte>> bytes = {
        io::bytes_of(std::span(packed.packed)), io::convert_from_f32(packed.scales, DType::kF16), {}};
    if (!symmetric_) bytes.push_back(io::bytes_of(std::span(packed.zero_points)));
    return bytes;
  }

  void configure(const Checkpoint& source, const std::vector<LinearPlan>& plans, ConfigText& config,
                 const std::filesystem::path&) const override {
    // The first group names a class, which is what most linears are found by; others are named one by one.
    const quant::AffineSpec most = most_common_spec(plans);
    std::vector<std::pair<quant::AffineSpec, ordered_json>> groups = {
        {most, ordered_json::array({"Linear"})}};
    ordered_json ignore = ordered_json::array({"lm_head"});
    for (const LinearPlan& plan : plans) {
      if (!plan.has_codes()) {
        ignore.push_back(plan.stored_name);
        continue;
      }
      if (same_codes(plan.spec, most)) continue;
      auto group = std::find_if(groups.begin() + 1, groups.end(),
                                [&](const auto& other) { return same_codes(other.first, plan.spec); });
      if (group == groups.end()) group = groups.insert(group, {plan.spec, ordered_json::array()});
      group->second.push_back(plan.stored_name);
    }
    const auto scheme = recorded(source);
    const ordered_json activations = scheme ? activations_json(*scheme) : ordered_json(nullptr);
    const bool bytes =
        std::any_of(plans.begin(), plans.end(), [](const LinearPlan& plan) { return plan.wide; });
    ordered_json config_groups = ordered_json::object();
    for (const auto& [spec, targets] : groups) {
      const bool channel = spec.group_size == -1;
      ordered_json weights = {{"num_bits", spec.bits},
                              {"type", "int"},
                              {"symmetric", symmetric_},
                              {"strategy", channel ? "channel" : "group"},
                              {"group_size", channel ? ordered_json(nullptr) : ordered_json(spec.group_size)},
                              {"dynamic", false},
                              {"actorder", nullptr},
                              {"block_structure", nullptr},
                              {"observer", "minmax"},
                              {"observer_kwargs", ordered_json::object()}};
      config_groups[cat("group_", config_groups.size())] = {{"targets", targets},
                                                            {"input_activations", activations},
                                                            {"output_activations", nullptr},
                                                            {"weights", std::move(weights)}};
    }
    config.set("quantization_config", {{"quant_method", "compressed-tensors"},
                                       {"format", bytes ? "int-quantized" : "pack-quantized"},
                                       {"quantization_status", "compressed"},
                                       {"ignore", std::move(ignore)},
                                       {"kv_cache_scheme", nullptr},
                                       {"global_compression_ratio", nullptr},
                                       {"config_groups", std::move(config_groups)}});
    config.set_dtype("float16");
  }

 private:
  /// What the format says of the inputs of linears; nullopt: nothing.
  std::optional<quant::ActivationScheme> recorded(const Checkpoint& source) const {
    auto scheme = source.activation_scheme();
    if (scheme) scheme->kv_bits = 16;
    if (!scheme || !scheme->rounds() || !lost_activations(*scheme).empty()) return std::nullopt;
    return scheme;
  }
  static ordered_json activations_json(const quant::ActivationScheme& scheme) {
    return {{"num_bits", scheme.bits},
            {"type", "int"},
            {"symmetric", scheme.symmetric},
            {"strategy", scheme.is_static() ? "tensor" : "token"},
            {"group_size", nullptr},
            {"dynamic", !scheme.is_static()},
            {"actorder", nullptr},
            {"block_structure", nullptr},
            {"observer", scheme.is_static() ? ordered_json("minmax") : ordered_json(nullptr)},
            {"observer_kwargs", ordered_json::object()}};
  }

  bool symmetric_;
};

}  // namespace

const Exporter& compressed_tensors_exporter() {
  static const CompressedExporter exporter(true);
  return exporter;
}
const Exporter& compressed_tensors_asym_exporter() {
  static const CompressedExporter exporter(false);
  return exporter;
}

}  // namespace crumb::formats
