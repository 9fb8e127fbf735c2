// Dequantized: linears as floats, for programs that read no codes.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/half.h"
#include "base/str.h"
#include "formats/export/directory.h"
#include "formats/export/faces.h"
#include "io/safetensors.h"
#include "quant/relative_error.h"

namespace crumb::formats {
namespace {

class HfExporter final : public DirectoryExporter {
 public:
  explicit HfExporter(DType dtype) : dtype_(dtype) {}
  std::string_view name() const override {
    return dtype_ == DType::kF32 ? "hf" : dtype_ == DType::kF16 ? "hf-f16" : "hf-bf16";
  }
  std::string_view clients() const override { return "whatever loads a float model"; }

 protected:
  bool takes_floats() const override { return true; }

  void plan(const quant::QuantizedLinear& linear, LinearPlan& plan) const override {
    plan.fit.stored_as = to_string(dtype_);
    plan.how = LinearPlan::How::kExact;
    plan.fit.lossless = true;
    if (dtype_ == DType::kF32) return;
    const std::vector<float> values = quant::dequantize(linear);
    const std::int64_t rounded =
        std::count_if(values.begin(), values.end(), [&](float v) { return round_to(v) != v; });
    if (rounded == 0) return;
    const auto infinite =
        std::find_if(values.begin(), values.end(), [&](float v) { return !std::isfinite(round_to(v)); });
    if (infinite != values.end()) {
      plan.how = LinearPlan::How::kNowhere;
      plan.fit = {.linear = "",
                  .stored_as = "",
                  .lossless = false,
                  .reason = cat("weight ", infinite - values.begin(), " is ", *infinite, ", beyond ",
                                to_string(dtype_), "'s range")};
      return;
    }
    plan.how = LinearPlan::How::kRounded;
    plan.fit.lossless = false;
    plan.fit.reason =
        cat(to_string(dtype_), " rounds ", rounded, " of ", values.size(), " weights; hf keeps them in F32");
  }

  std::vector<LinearPart> parts(const LinearPlan& plan) const override {
    return {{"weight", dtype_, {plan.n, plan.k}}};
  }
  std::vector<std::vector<std::byte>> pack(const quant::QuantizedLinear& stored,
                                           const LinearPlan&) const override {
    return {io::convert_from_f32(quant::dequantize(stored), dtype_)};
  }
  double loss(const quant::QuantizedLinear& linear, const quant::QuantizedLinear&) const override {
    const std::vector<float> w = quant::dequantize(linear);
    std::vector<float> stored(w.size());
    std::transform(w.begin(), w.end(), stored.begin(), [this](float v) { return round_to(v); });
    return quant::relative_error(w, stored);
  }
  void configure(const Checkpoint&, const std::vector<LinearPlan>&, ConfigText& config,
                 const std::filesystem::path&) const override {
    config.set_dtype(dtype_ == DType::kF32 ? "float32" : dtype_ == DType::kF16 ? "float16" : "bfloat16");
  }

 private:
  float round_to(float v) const {
    return dtype_ == DType::kF16 ? round_to_f16(v) : bf16_to_float(float_to_bf16(v));
  }
  DType dtype_;
};

}  // namespace

const Exporter& hf_exporter(DType dtype) {
  static const HfExporter f32(DType::kF32), f16(DType::kF16), bf16(DType::kBF16);
  CRUMB_CHECK(dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16);
  return dtype == DType::kF32 ? f32 : dtype == DType::kF16 ? f16 : bf16;
}

}  // namespace crumb::formats
