#include <nlohmann/json.hpp>

#include "formats/export/faces.h"
#include "formats/export/gptq_parts.h"

namespace crumb::formats {
namespace {

class AutoRoundExporter final : public GptqPartsExporter {
 public:
  AutoRoundExporter() : GptqPartsExporter(GptqZeros::kV2, false) {}
  std::string_view name() const override { return "auto-round"; }
  std::string_view clients() const override { return "auto-round, transformers"; }

 protected:
  void plan(const quant::QuantizedLinear& linear, LinearPlan& plan) const override {
    plan_grid(linear, false, kGptqGroups, kGptqMultiple, kGptqMultiple, plan);
  }

  void configure(const Checkpoint& source, const std::vector<LinearPlan>& plans, ConfigText& config,
                 const std::filesystem::path&) const override {
    const quant::AffineSpec spec = most_common_spec(plans);
    const bool symmetric = all_symmetric(plans);
    const std::string blocks = model::stored_name(source.config(), model::kBlocksName);
    // The version is that of the program which was seen to load these directories.
    nlohmann::ordered_json quantization = {{"quant_method", "auto-round"},
                                           {"packing_format", "auto_round"},
                                           {"bits", spec.bits},
                                           {"group_size", spec.group_size},
                                           {"sym", symmetric},
                                           {"data_type", "int"},
                                           {"autoround_version", "0.16.1"},
                                           {"block_name_to_quantize", blocks.substr(0, blocks.size() - 1)}};
    nlohmann::ordered_json extra = nlohmann::ordered_json::object();
    for (const LinearPlan& plan : plans) {
      if (!plan.has_codes()) {
        extra[plan.stored_name] = {{"bits", 16}, {"data_type", "float"}};
      } else if (!same_codes(plan.spec, spec)) {
        extra[plan.stored_name] = {
            {"bits", plan.spec.bits}, {"group_size", plan.spec.group_size}, {"sym", symmetric}};
      }
    }
    if (!extra.empty()) quantization["extra_config"] = std::move(extra);
    config.set("quantization_config", quantization);
    config.set_dtype("float16");
  }
};

}  // namespace

const Exporter& auto_round_exporter() {
  static const AutoRoundExporter exporter;
  return exporter;
}

}  // namespace crumb::formats
