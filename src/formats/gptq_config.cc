// quantization_config of GPTQ checkpoints, both directions.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/config_fields.h"
#include "formats/gptq.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;
constexpr std::string_view kWhere = "formats.parse_gptq_config";

std::optional<GptqZeros> zeros_of(const ConfigFields& config) {
  const std::string_view subject = config.subject();
  std::string format = config.text("checkpoint_format");
  if (format.empty()) format = config.text("format");
  if (format == "gptq_v2") return GptqZeros::kV2;
  if (format == "gptq") return GptqZeros::kV1;
  if (format.empty() && config.text("provider") == "auto-round") return GptqZeros::kV1;  // its auto_gptq
  if (format.empty() && config.flag("sym")) return std::nullopt;
  if (format.empty()) {
    fail(ErrorKind::kCorrupt, kWhere, subject,
         ": checkpoint_format is missing, and v1 (stores z - 1) and v2 (stores z) cannot be told apart by "
         "looking; say --gptq-zeros v1 (what AutoGPTQ wrote) or v2 (EfficientQAT, OmniQuant) to crumb "
         "import, or "
         "add \"checkpoint_format\": \"gptq\" or \"gptq_v2\" to it");
  }
  fail(ErrorKind::kUnsupported, kWhere, subject, ": checkpoint_format '", format,
       "'; known are gptq and gptq_v2");
}

quant::ActivationScheme activations_of(const ordered_json& json, std::string_view subject) {
  const ConfigFields fields(json, kWhere, subject);
  quant::ActivationScheme scheme;
  for (const auto& [key, bits] : {std::pair{"bits", &scheme.bits}, std::pair{"kv_bits", &scheme.kv_bits}}) {
    const std::int64_t value = fields.integer(key);
    if (!quant::is_activation_bits(value)) {
      fail(ErrorKind::kUnsupported, kWhere, subject, ": meta.activations.", key, " is ", value,
           "; known are 2 to 8, and 16 for no rounding");
    }
    *bits = static_cast<int>(value);
  }
  if (fields.find("symmetric") == nullptr)
    fail(ErrorKind::kCorrupt, kWhere, subject, ": meta.activations has no symmetric; expected true or false");
  scheme.symmetric = fields.flag("symmetric");
  if (const std::string word = fields.text("granularity"); !word.empty()) {
    const auto granularity = quant::parse_granularity(word);
    if (!granularity)
      fail(ErrorKind::kUnsupported, kWhere, subject, ": meta.activations.granularity '", word,
           "'; known are per_token, per_tensor and per_channel");
    scheme.inputs = *granularity;
  }
  return scheme;
}

}  // namespace

ordered_json gptq_quantization_config(const GptqConfigToWrite& config) {
  ordered_json dynamic = nullptr;
  for (const auto& [linear, spec] : config.others) {
    if (dynamic.is_null()) dynamic = ordered_json::object();
    if (spec) {
      dynamic["+:" + exact_expression(linear)] = {{"bits", spec->bits}, {"group_size", spec->group_size}};
    } else {
      dynamic["-:" + exact_expression(linear)] = ordered_json::object();
    }
  }
  const char* format = config.zeros == GptqZeros::kV1 ? "gptq" : "gptq_v2";
  // Key by key what GPTQModel and transformers were seen to load; damp_percent and true_sequential are
  // required there and mean nothing here.
  ordered_json out = {
      {"quant_method", "gptq"},
      {"bits", config.spec.bits},
      {"group_size", config.spec.group_size},
      {"desc_act", false},
      {"sym", config.symmetric},
      {"lm_head", false},
      {"checkpoint_format", format},
      {"format", format},
      {"method", "gptq"},
      {"pack_dtype", "int32"},
      {"true_sequential", true},
      {"damp_percent", 0.01},
      {"static_groups", false},
      {"dynamic", std::move(dynamic)},
      {"meta",
       {{"quantizer", ordered_json::array({"crumb:0.1.0"})}, {"grid", quant::to_string(config.spec.grid)}}}};
  if (config.head_bits) out["meta"]["head_bits"] = *config.head_bits;
  if (config.weight_bits != 0) out["meta"]["weight_bits"] = config.weight_bits;
  if (config.activations) {
    out["meta"]["activations"] = {{"bits", config.activations->bits},
                                  {"kv_bits", config.activations->kv_bits},
                                  {"symmetric", config.activations->symmetric},
                                  {"granularity", quant::to_string(config.activations->inputs)}};
  }
  return out;
}

GptqConfig parse_gptq_config(const ordered_json& json, std::string_view subject) {
  const ConfigFields config(json, kWhere, subject);
  const std::string method = config.text("quant_method");
  if (!method.empty() && method != "gptq") {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": quant_method '", method, "'; expected gptq (v1, v2)");
  }
  GptqConfig result;
  result.spec = config.spec();
  result.act_order = config.flag("desc_act");
  if (config.flag("lm_head"))
    fail(ErrorKind::kUnsupported, kWhere, subject, ": the head is quantized; crumb reads float heads only");
  const std::string pack_dtype = config.text("pack_dtype");
  if (!pack_dtype.empty() && pack_dtype != "int32") {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": pack_dtype '", pack_dtype, "'; crumb reads int32");
  }
  if (const ordered_json* value = config.find("meta"); value != nullptr && value->is_object()) {
    const ConfigFields meta(*value, kWhere, subject);
    const std::string grid = meta.text("grid");
    if (!grid.empty()) result.spec.grid = quant::parse_grid(grid);
    if (meta.find("head_bits") != nullptr) {
      const std::int64_t head_bits = meta.integer("head_bits");
      if (head_bits != 0 && head_bits != 4 && head_bits != 6 && head_bits != 8)
        fail(ErrorKind::kUnsupported, kWhere, subject, ": meta.head_bits is ", head_bits,
             "; known are 0, 4, 6 and 8");
      result.head_bits = static_cast<int>(head_bits);
    }
    if (const std::int64_t bits = meta.integer("weight_bits", 0); bits > 0 && bits < result.spec.bits)
      result.weight_bits = static_cast<int>(bits);
    if (const ordered_json* activations = meta.object("activations"))
      result.activations = activations_of(*activations, subject);
  }
  result.specs = LinearSpecs(result.spec);
  if (const ordered_json* dynamic = config.object("dynamic")) {
    for (const auto& [key, value] : dynamic->items()) {
      if (key.starts_with("-:")) {
        result.specs.add(LinearSpecs::Match::kBegin, key.substr(2), std::nullopt, subject);
        continue;
      }
      const ConfigFields own(value, kWhere, subject);
      result.act_order |= own.flag("desc_act");
      result.specs.add(LinearSpecs::Match::kBegin, key.starts_with("+:") ? key.substr(2) : key,
                       own.spec_over(result.spec), subject);
    }
  }
  result.zeros = zeros_of(config);
  return result;
}

}  // namespace crumb::formats
