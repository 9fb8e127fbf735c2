#include "formats/packed_reader.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/config_fields.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;
constexpr std::string_view kWhere = "formats.packed_reader";

const ordered_json* member(const ordered_json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

struct Method {
  std::string_view name;
  std::unique_ptr<PackedReader> (*make)(const ordered_json&, std::string_view);
};
constexpr Method kMethods[] = {{"gptq", make_gptq_reader},
                               {"auto-round", make_auto_round_reader},
                               {"intel/auto-round", make_auto_round_reader},
                               {"compressed-tensors", make_compressed_tensors_reader},
                               {"awq", make_awq_reader}};

}  // namespace

std::unique_ptr<PackedReader> make_method_reader(const ordered_json& quantization, std::string_view subject) {
  const std::string name = ConfigFields(quantization, kWhere, subject).text("quant_method");
  if (name.empty()) return make_gptq_reader(quantization, subject);  // older GPTQ files do not say
  for (const Method& method : kMethods)
    if (method.name == name) return method.make(quantization, subject);
  fail(ErrorKind::kUnsupported, kWhere, subject, ": quant_method '", name,
       "'; crumb reads gptq, auto-round, compressed-tensors, awq and MLX's affine quantization. Start from "
       "the "
       "float checkpoint");
}

std::unique_ptr<PackedReader> make_packed_reader(const ordered_json& config, std::string_view subject) {
  // MLX writes its object twice, without a quant_method.
  const ordered_json *mlx = member(config, "quantization"), *others = member(config, "quantization_config");
  if (mlx != nullptr && (others == nullptr || !others->is_object() || !others->contains("quant_method")))
    return make_mlx_reader(*mlx, subject);
  return others == nullptr ? nullptr : make_method_reader(*others, subject);
}

quant::WordLayout layout_of_words(std::int64_t words, std::int64_t count, int bits) {
  using quant::WordLayout;
  const bool padded = words == quant::packed_words(count, bits, WordLayout::kPadded) &&
                      words != quant::packed_words(count, bits, WordLayout::kDense);
  return padded ? WordLayout::kPadded : WordLayout::kDense;
}

}  // namespace crumb::formats
