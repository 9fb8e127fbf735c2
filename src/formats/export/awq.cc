#include "formats/awq.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/str.h"
#include "formats/export/directory.h"
#include "formats/export/faces.h"
#include "io/safetensors.h"

namespace crumb::formats {
namespace {

constexpr std::int64_t kGroups[] = {32, 64, 128};
constexpr int kBits = 4;

class AwqExporter final : public DirectoryExporter {
 public:
  std::string_view name() const override { return "awq"; }
  std::string_view clients() const override { return "vLLM, SGLang, GPTQModel, transformers"; }

 protected:
  void plan(const quant::QuantizedLinear& linear, LinearPlan& plan) const override {
    plan_grid(linear, false, kGroups, 8, 8, plan);
    if (plan.how == LinearPlan::How::kNowhere) return;
    plan.fit.stored_as = "4 bits";
    if (linear.spec.bits > kBits) {
      plan.how = LinearPlan::How::kNearest;
      plan.fit.lossless = false;
      plan.fit.reason = cat(linear.spec.bits, "-bit codes; AWQ has 4 bits");
      plan.spec.grid = quant::Grid::kAsym;
      plan.symmetric = false;
    } else if (linear.spec.bits < kBits) {
      plan.spec.grid = quant::Grid::kAsym;  // the zero points stay where they were
      plan.symmetric = false;
    }
    plan.spec.bits = kBits;
  }

  // One group size is stated for all; smaller groups hold what larger ones do.
  void plan_together(const Checkpoint&, std::vector<LinearPlan>& plans) const override {
    std::int64_t least = kGroups[2];
    for (const LinearPlan& plan : plans)
      if (plan.has_codes()) least = std::min(least, plan.spec.group_size);
    for (LinearPlan& plan : plans)
      if (plan.has_codes()) plan.spec.group_size = least;
  }

  std::vector<LinearPart> parts(const LinearPlan& plan) const override {
    const std::int64_t groups = plan.spec.groups(plan.k);
    return {{"qweight", DType::kI32, {plan.k, plan.n / 8}},
            {"qzeros", DType::kI32, {groups, plan.n / 8}},
            {"scales", DType::kF16, {groups, plan.n}}};
  }

  std::vector<std::vector<std::byte>> pack(const quant::QuantizedLinear& stored,
                                           const LinearPlan&) const override {
    const AwqParts packed = pack_awq(stored);
    return {io::bytes_of(std::span(packed.qweight)), io::bytes_of(std::span(packed.qzeros)),
            io::convert_from_f32(packed.scales, DType::kF16)};
  }

  void configure(const Checkpoint&, const std::vector<LinearPlan>& plans, ConfigText& config,
                 const std::filesystem::path& folder) const override {
    nlohmann::ordered_json floats = nlohmann::ordered_json::array();
    for (const LinearPlan& plan : plans)
      if (!plan.has_codes()) floats.push_back(plan.stored_name);
    const nlohmann::ordered_json quantization = {
        {"quant_method", "awq"},
        {"bits", kBits},
        {"group_size", most_common_spec(plans).group_size},
        {"zero_point", true},
        {"version", "gemm"},
        {"modules_to_not_convert", floats.empty() ? nlohmann::ordered_json(nullptr) : floats}};
    config.set("quantization_config", quantization);
    config.set_dtype("float16");
    write_json(folder / "quant_config.json", quantization);
  }
};

}  // namespace

const Exporter& awq_exporter() {
  static const AwqExporter exporter;
  return exporter;
}

}  // namespace crumb::formats
