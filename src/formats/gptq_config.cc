// quantization_config of GPTQ checkpoints, both directions.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/gptq.h"

namespace crumb::formats {
namespace {

using nlohmann::json;
constexpr std::string_view kWhere = "formats.parse_gptq_config";

const json* find(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t integer(const json& config, const char* key, std::string_view subject) {
  const json* value = find(config, key);
  if (value == nullptr || !value->is_number_integer()) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": quantization ", key, " is ",
         value == nullptr ? "missing" : value->dump(), "; expected an integer");
  }
  return value->get<std::int64_t>();
}

bool flag(const json& config, const char* key, std::string_view subject) {
  const json* value = find(config, key);
  if (value == nullptr) return false;
  if (!value->is_boolean()) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": quantization ", key, " is ", value->dump(),
         "; expected true or false");
  }
  return value->get<bool>();
}

std::string text(const json& config, const char* key, std::string_view subject) {
  const json* value = find(config, key);
  if (value == nullptr) return {};
  if (!value->is_string())
    fail(ErrorKind::kCorrupt, kWhere, subject, ": quantization ", key, " is ", value->dump(),
         "; expected a name");
  return value->get<std::string>();
}

GptqZeros zeros_of(const json& config, std::string_view subject) {
  std::string format = text(config, "checkpoint_format", subject);
  if (format.empty()) format = text(config, "format", subject);
  if (format == "gptq_v2") return GptqZeros::kV2;
  if (format == "gptq") return GptqZeros::kV1;
  if (format.empty()) {
    fail(ErrorKind::kCorrupt, kWhere, subject,
         ": checkpoint_format is missing, and v1 (stores z - 1) and v2 (stores z) cannot be told apart by "
         "looking; add \"checkpoint_format\": \"gptq\" (what AutoGPTQ wrote) or \"gptq_v2\" (EfficientQAT, "
         "OmniQuant) to it");
  }
  fail(ErrorKind::kUnsupported, kWhere, subject, ": checkpoint_format '", format,
       "'; known are gptq and gptq_v2");
}

}  // namespace

nlohmann::ordered_json gptq_quantization_config(const quant::AffineSpec& spec, int head_bits) {
  // Key by key what GPTQModel and transformers were seen to load; damp_percent and true_sequential are
  // required there and mean nothing here.
  return {{"quant_method", "gptq"},
          {"bits", spec.bits},
          {"group_size", spec.group_size},
          {"desc_act", false},
          {"sym", false},
          {"lm_head", false},
          {"checkpoint_format", "gptq_v2"},
          {"format", "gptq_v2"},
          {"method", "gptq"},
          {"pack_dtype", "int32"},
          {"true_sequential", true},
          {"damp_percent", 0.01},
          {"static_groups", false},
          {"dynamic", nullptr},
          {"meta",
           {{"quantizer", nlohmann::ordered_json::array({"crumb:0.1.0"})},
            {"grid", quant::to_string(spec.grid)},
            {"head_bits", head_bits}}}};
}

GptqConfig parse_gptq_config(const json& config, std::string_view subject) {
  if (!config.is_object())
    fail(ErrorKind::kCorrupt, kWhere, subject, ": the quantization configuration is no JSON object");
  const std::string method = text(config, "quant_method", subject);
  if (!method.empty() && method != "gptq") {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": quant_method '", method,
         "'; crumb reads gptq (v1, v2). Start from the float checkpoint");
  }
  GptqConfig result;
  const std::int64_t bits = integer(config, "bits", subject);
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": bits is ", bits, "; known are 2, 3, 4 and 8");
  }
  result.spec.bits = static_cast<int>(bits);
  result.spec.group_size = integer(config, "group_size", subject);
  if (result.spec.group_size != -1 && result.spec.group_size <= 0) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": group_size is ", result.spec.group_size,
         "; expected a positive number or -1");
  }
  // desc_act itself is harmless where g_idx is plain; unpack_gptq looks at every g_idx. Without one in the
  // file it cannot.
  if (flag(config, "desc_act", subject)) {
    fail(ErrorKind::kUnsupported, kWhere, subject,
         ": desc_act is true (act-order); crumb reads groups of neighboring inputs only");
  }
  if (flag(config, "lm_head", subject))
    fail(ErrorKind::kUnsupported, kWhere, subject, ": the head is quantized; crumb reads float heads only");
  const json* dynamic = find(config, "dynamic");
  if (dynamic != nullptr && !dynamic->empty()) {
    fail(ErrorKind::kUnsupported, kWhere, subject,
         ": 'dynamic' gives single layers their own bits; crumb reads one scheme for all linears");
  }
  const std::string pack_dtype = text(config, "pack_dtype", subject);
  if (!pack_dtype.empty() && pack_dtype != "int32") {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": pack_dtype '", pack_dtype, "'; crumb reads int32");
  }
  const json* meta = find(config, "meta");
  if (meta != nullptr && meta->is_object()) {
    const std::string grid = text(*meta, "grid", subject);
    if (!grid.empty()) result.spec.grid = quant::parse_grid(grid);
    if (find(*meta, "head_bits") != nullptr) {
      const std::int64_t head_bits = integer(*meta, "head_bits", subject);
      if (head_bits != 0 && head_bits != 4 && head_bits != 6 && head_bits != 8)
        fail(ErrorKind::kUnsupported, kWhere, subject, ": meta.head_bits is ", head_bits,
             "; known are 0, 4, 6 and 8");
      result.head_bits = static_cast<int>(head_bits);
    }
  }
  result.zeros = zeros_of(config, subject);
  return result;
}

}  // namespace crumb::formats
