#include "model/rope_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"

namespace crumb::model {
namespace {

using nlohmann::json;
constexpr std::string_view kWhere = "model.parse_hf_config";

struct TypeName {
  std::string_view name;
  RopeConfig::Type type;
};
constexpr TypeName kTypes[] = {{"default", RopeConfig::Type::kDefault},
                               {"linear", RopeConfig::Type::kLinear},
                               {"llama3", RopeConfig::Type::kLlama3},
                               {"yarn", RopeConfig::Type::kYarn}};

bool present(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

double number(const json& object, const char* key, double otherwise, std::string_view subject) {
  if (!present(object, key)) return otherwise;
  const json& value = object.at(key);
  if (!value.is_number() || !(value.get<double>() > 0.0) || !std::isfinite(value.get<double>())) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": rope ", key, " is ", value.dump(),
         "; expected a positive number");
  }
  return value.get<double>();
}

double needed(const json& object, const char* key, std::string_view type, std::string_view subject) {
  if (!present(object, key)) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": rope type '", type, "' without '", key,
         "'; expected a positive number");
  }
  return number(object, key, 0.0, subject);
}

// The object that describes the rotation; transformers 5 may nest one per layer type.
json rope_object(const json& config, std::string_view subject) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!present(config, key)) continue;
    const json& value = config.at(key);
    if (!value.is_object())
      fail(ErrorKind::kCorrupt, kWhere, subject, ": ", key, " is ", value.dump(),
           "; expected an object or null");
    if (!value.contains("full_attention")) return value;
    for (const auto& [layer_type, parameters] : value.items()) {
      if (parameters != value.at("full_attention")) {
        fail(ErrorKind::kUnsupported, kWhere, subject, ": ", key, " of ", layer_type,
             " differs from that of full_attention; "
             "crumb rotates all layers alike");
      }
    }
    return value.at("full_attention");
  }
  return json::object();
}

RopeConfig::Type rope_type(const json& rope, std::string_view subject) {
  std::string name = "default";
  for (const char* key : {"rope_type", "type"}) {
    if (!present(rope, key)) continue;
    if (!rope.at(key).is_string())
      fail(ErrorKind::kCorrupt, kWhere, subject, ": rope ", key, " is ", rope.at(key).dump(),
           "; expected a name");
    name = rope.at(key).get<std::string>();
    break;
  }
  for (const TypeName& known : kTypes) {
    if (known.name == name) return known.type;
  }
  fail(ErrorKind::kUnsupported, kWhere, subject, ": rope type '", name,
       "'; known types: default, linear, llama3, yarn");
}

}  // namespace

RopeConfig parse_rope(const json& config, const Family& family, std::int64_t max_position_embeddings,
                      std::string_view subject) {
  const json rope = rope_object(config, subject);
  RopeConfig result;
  result.type = rope_type(rope, subject);
  result.theta =
      number(rope, "rope_theta", number(config, "rope_theta", family.default_rope_theta, subject), subject);
  const double partial =
      number(rope, "partial_rotary_factor", number(config, "partial_rotary_factor", 1.0, subject), subject);
  if (partial != 1.0) {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": partial_rotary_factor is ", partial,
         "; crumb rotates whole heads only");
  }
  // The length that the unscaled rotation was trained on; 0 when the file does not say.
  const auto original = [&] {
    constexpr const char* kKey = "original_max_position_embeddings";
    const double length =
        present(rope, kKey) ? number(rope, kKey, 0, subject) : number(config, kKey, 0, subject);
    if (length >= 0x1p31 || length != std::floor(length)) {
      fail(ErrorKind::kCorrupt, kWhere, subject, ": rope ", kKey, " is ", length,
           "; expected a positive integer below 2^31");
    }
    return static_cast<std::int64_t>(length);
  };
  switch (result.type) {
    case RopeConfig::Type::kDefault:
      break;
    case RopeConfig::Type::kLinear:
      result.factor = needed(rope, "factor", "linear", subject);
      break;
    case RopeConfig::Type::kLlama3:
      result.factor = needed(rope, "factor", "llama3", subject);
      result.low_freq_factor = needed(rope, "low_freq_factor", "llama3", subject);
      result.high_freq_factor = needed(rope, "high_freq_factor", "llama3", subject);
      result.original_max_position_embeddings = original();
      if (result.original_max_position_embeddings == 0) {
        fail(ErrorKind::kCorrupt, kWhere, subject,
             ": rope type 'llama3' without 'original_max_position_embeddings'; expected a positive integer");
      }
      if (result.high_freq_factor <= result.low_freq_factor) {
        fail(ErrorKind::kCorrupt, kWhere, subject, ": rope high_freq_factor ", result.high_freq_factor,
             " is not above low_freq_factor ", result.low_freq_factor, "; exchange them");
      }
      break;
    case RopeConfig::Type::kYarn:
      result.original_max_position_embeddings = original();
      if (result.original_max_position_embeddings == 0)
        result.original_max_position_embeddings = max_position_embeddings;
      result.factor = number(rope, "factor",
                             static_cast<double>(max_position_embeddings) /
                                 static_cast<double>(result.original_max_position_embeddings),
                             subject);
      result.beta_fast = number(rope, "beta_fast", 32.0, subject);
      result.beta_slow = number(rope, "beta_slow", 1.0, subject);
      result.attention_factor = number(rope, "attention_factor", 0.0, subject);
      for (const char* key : {"mscale", "mscale_all_dim"}) {
        if (present(rope, key))
          fail(ErrorKind::kUnsupported, kWhere, subject, ": yarn with ", key,
               "; crumb knows attention_factor only");
      }
      if (present(rope, "truncate") && rope.at("truncate") != json(true)) {
        fail(ErrorKind::kUnsupported, kWhere, subject, ": yarn with truncate ", rope.at("truncate").dump(),
             "; crumb knows true only");
      }
      break;
  }
  if (result.factor < 1.0) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": rope factor is ", result.factor, "; expected at least 1");
  }
  return result;
}

RopeFrequencies rope_frequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  const std::int64_t half = config.head_dim / 2;
  const double dims = static_cast<double>(config.head_dim),
               length = static_cast<double>(rope.original_max_position_embeddings);
  RopeFrequencies result;
  result.inv_freq.resize(static_cast<std::size_t>(half));
  for (std::int64_t i = 0; i < half; ++i) {
    result.inv_freq[static_cast<std::size_t>(i)] =
        std::pow(rope.theta, -2.0 * static_cast<double>(i) / dims);  // (R1)
  }
  switch (rope.type) {
    case RopeConfig::Type::kDefault:
      break;
    case RopeConfig::Type::kLinear:  // (R2)
      for (double& f : result.inv_freq) f /= rope.factor;
      break;
    case RopeConfig::Type::kLlama3:  // (R3): t is 0 at the longest kept-by-factor wavelength, 1 at the
                                     // shortest one that is scaled at all
      for (double& f : result.inv_freq) {
        const double turns = length * f / (2.0 * std::numbers::pi);
        const double t = std::clamp(
            (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
        f *= (1.0 - t) / rope.factor + t;
      }
      break;
    case RopeConfig::Type::kYarn: {  // (R4); the ramp is linear in the index between two whole dimensions, as
                                     // the YaRN authors' code has it
      const auto dimension_of = [&](double turns) {
        return dims * std::log(length / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(rope.theta));
      };
      const double low = std::max(std::floor(dimension_of(rope.beta_fast)), 0.0);
      double high = std::min(std::ceil(dimension_of(rope.beta_slow)), dims - 1.0);
      if (low == high) high += 0.001;
      for (std::int64_t i = 0; i < half; ++i) {
        const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        result.inv_freq[static_cast<std::size_t>(i)] *= ramp / rope.factor + (1.0 - ramp);
      }
      result.attention_scaling =
          rope.attention_factor > 0.0 ? rope.attention_factor : 0.1 * std::log(rope.factor) + 1.0;
      break;
    }
  }
  return result;
}

}  // namespace crumb::model
