// GPTQ directories: v2, v1 and crumb's own.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/export/faces.h"
#include "formats/export/gptq_parts.h"
#include "io/safetensors.h"

namespace crumb::formats {

std::vector<LinearPart> GptqPartsExporter::parts(const LinearPlan& plan) const {
  using quant::WordLayout;
  const std::int64_t groups = plan.spec.groups(plan.k);
  std::vector<LinearPart> parts = {
      {"qweight", DType::kI32, {quant::packed_words(plan.k, plan.spec.bits, WordLayout::kDense), plan.n}},
      {"qzeros", DType::kI32, {groups, quant::packed_words(plan.n, plan.spec.bits, WordLayout::kDense)}},
      {"scales", DType::kF16, {groups, plan.n}}};
  if (g_idx_) parts.push_back({"g_idx", DType::kI32, {plan.k}});
  return parts;
}

std::vector<std::vector<std::byte>> GptqPartsExporter::pack(const quant::QuantizedLinear& stored,
                                                            const LinearPlan&) const {
  const GptqTensors packed = pack_gptq(stored, quant::WordLayout::kDense, zeros_);
  std::vector<std::vector<std::byte>> bytes;
  bytes.push_back(io::bytes_of(std::span(packed.qweight)));
  bytes.push_back(io::bytes_of(std::span(packed.qzeros)));
  bytes.push_back(io::convert_from_f32(packed.scales, DType::kF16));
  if (g_idx_) bytes.push_back(io::bytes_of(std::span(packed.g_idx)));
  return bytes;
}

namespace {

class GptqExporter final : public GptqPartsExporter {
 public:
  enum class Flavor { kV2, kV1, kOwn };
  explicit GptqExporter(Flavor flavor)
      : GptqPartsExporter(flavor == Flavor::kV1 ? GptqZeros::kV1 : GptqZeros::kV2, true), flavor_(flavor) {}

  std::string_view name() const override {
    return flavor_ == Flavor::kV1 ? "gptq-v1" : flavor_ == Flavor::kV2 ? "gptq" : "crumb";
  }
  std::string_view clients() const override {
    switch (flavor_) {
      case Flavor::kV1:
        return "GPTQModel, transformers, vLLM (4 and 8 bits)";
      case Flavor::kV2:
        return "GPTQModel, transformers, crumb";
      case Flavor::kOwn:
        break;
    }
    return "crumb";
  }

  std::string lost_activations(const quant::ActivationScheme&) const override { return {}; }

 protected:
  void plan(const quant::QuantizedLinear& linear, LinearPlan& plan) const override {
    if (flavor_ != Flavor::kOwn)
      return plan_grid(linear, flavor_ == Flavor::kV1, kGptqGroups, kGptqMultiple, kGptqMultiple, plan);
    plan_grid(linear, false, {}, 1, 1, plan);
    try {
      check_gptq_shape(linear.n, linear.k, linear.spec.bits);
    } catch (const Error& error) {
      plan.how = LinearPlan::How::kNowhere;
      plan.fit = {.linear = "", .stored_as = "", .lossless = false, .reason = error.what()};
    }
  }

  void configure(const Checkpoint& source, const std::vector<LinearPlan>& plans, ConfigText& config,
                 const std::filesystem::path& folder) const override {
    GptqConfigToWrite says{.spec = most_common_spec(plans),
                           .zeros = zeros_,
                           .symmetric = all_symmetric(plans),
                           .head_bits = source.head_bits(),
                           .activations = source.activation_scheme(),
                           .weight_bits = source.weight_bits(),
                           .others = {}};
    for (const LinearPlan& plan : plans) {
      if (!plan.has_codes()) {
        says.others.emplace_back(plan.stored_name, std::nullopt);
      } else if (!same_codes(plan.spec, says.spec)) {
        says.others.emplace_back(plan.stored_name, plan.spec);
      }
    }
    const nlohmann::ordered_json quantization = gptq_quantization_config(says);
    config.set("quantization_config", quantization);
    if (flavor_ != Flavor::kOwn) config.set_dtype("float16");
    write_json(folder / "quantize_config.json", quantization);
  }

 private:
  Flavor flavor_;
};

}  // namespace

const Exporter& gptq_exporter() {
  static const GptqExporter exporter(GptqExporter::Flavor::kV2);
  return exporter;
}
const Exporter& gptq_v1_exporter() {
  static const GptqExporter exporter(GptqExporter::Flavor::kV1);
  return exporter;
}
const Exporter& own_directory_exporter() {
  static const GptqExporter exporter(GptqExporter::Flavor::kOwn);
  return exporter;
}

}  // namespace crumb::formats
