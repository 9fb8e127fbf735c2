#include "formats/mlx.h"

#include <nlohmann/json.hpp>

#include "base/str.h"
#include "formats/export/directory.h"
#include "formats/export/faces.h"
#include "io/safetensors.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kGroups[] = {32, 64, 128};

class MlxExporter final : public DirectoryExporter {
 public:
  std::string_view name() const override { return "mlx"; }
  std::string_view clients() const override { return "mlx-lm"; }
  std::string unfit_structure(const model::ModelConfig& config) const override {
    return config.family == "opt" ? "mlx-lm has no OPT models" : "";
  }

 protected:
  void plan(const quant::QuantizedLinear& linear, LinearPlan& plan) const override {
    plan_grid(linear, false, kGroups, 1, 32, plan);
    if (plan.round_scales) {  // not here: they are F32
      plan.round_scales = false;
      plan.how = LinearPlan::How::kExact;
      plan.fit = {.linear = "", .stored_as = cat(linear.spec.bits, " bits"), .lossless = true, .reason = ""};
    }
    // A requantized linear has zero points that are not known yet.
    plan.wide = plan.how == LinearPlan::How::kNearest ||
                (plan.how == LinearPlan::How::kExact && !fits_f16(pack_mlx(linear)));
  }

  std::vector<LinearPart> parts(const LinearPlan& plan) const override {
    const std::int64_t groups = plan.spec.groups(plan.k);
    return {{"weight", DType::kU32, {plan.n, plan.k * plan.spec.bits / 32}},
            {"scales", dtype(plan), {plan.n, groups}},
            {"biases", dtype(plan), {plan.n, groups}}};
  }

  std::vector<std::vector<std::byte>> pack(const quant::QuantizedLinear& stored,
                                           const LinearPlan& plan) const override {
    const MlxParts packed = pack_mlx(stored);
    return {io::bytes_of(std::span(packed.words)), io::convert_from_f32(packed.scales, dtype(plan)),
            io::convert_from_f32(packed.biases, dtype(plan))};
  }
  std::string_view metadata_format() const override { return "mlx"; }

  void configure(const Checkpoint&, const std::vector<LinearPlan>& plans, ConfigText& config,
                 const std::filesystem::path&) const override {
    const quant::AffineSpec most = most_common_spec(plans);
    ordered_json quantization = {{"group_size", most.group_size},
                                 {"bits", most.bits},
                                 {"mode", "affine"},
                                 {"lm_head", false},
                                 {"model.embed_tokens", false}};
    for (const LinearPlan& plan : plans) {
      if (!plan.has_codes()) {
        quantization[plan.stored_name] = false;
      } else if (!same_codes(plan.spec, most)) {
        quantization[plan.stored_name] = {{"group_size", plan.spec.group_size}, {"bits", plan.spec.bits}};
      }
    }
    config.set("quantization", quantization);
    config.set("quantization_config", quantization);
  }

 private:
  static DType dtype(const LinearPlan& plan) { return plan.wide ? DType::kF32 : DType::kF16; }
};

}  // namespace

const Exporter& mlx_exporter() {
  static const MlxExporter exporter;
  return exporter;
}

}  // namespace crumb::formats
