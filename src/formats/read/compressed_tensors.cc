// compressed-tensors' configuration, and its tensors in a directory. docs/formats/compressed_tensors.md.
#include "formats/compressed_tensors.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/config_fields.h"
#include "formats/packed_reader.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;
constexpr std::string_view kWhere = "formats.compressed_tensors";

class CompressedReader final : public PackedReader {
 public:
  CompressedReader(LinearSpecs specs, std::optional<quant::ActivationScheme> activations)
      : activations_(activations) {
    specs_ = std::move(specs);
  }
  std::string_view name() const override { return "compressed-tensors"; }
  std::optional<quant::ActivationScheme> activation_scheme() const override { return activations_; }
  std::string_view scales_part() const override { return "weight_scale"; }

  bool holds(const TensorTable& tensors, std::string_view linear) const override {
    return tensors.has(cat(linear, ".weight_packed")) || in_bytes(tensors, linear);
  }

  void check(const TensorTable& tensors, const std::string& linear, std::int64_t n, std::int64_t k,
             const quant::AffineSpec& spec) const override {
    const bool bytes = in_bytes(tensors, linear);
    if (bytes)
      tensors.check_shape(linear + ".weight", {n, k});
    else
      tensors.check_shape(linear + ".weight_packed",
                          {n, quant::packed_words(k, spec.bits, layout_of(tensors, linear, k, spec))});
    tensors.check_shape(linear + ".weight_scale", {n, spec.groups(k)});
    if (const std::string name = linear + ".weight_shape"; tensors.has(name)) {
      const std::vector<std::int32_t> stored = tensors.integers(name);
      if (stored.size() != 2 || stored[0] != n || stored[1] != k)
        fail(ErrorKind::kCorrupt, kWhere, tensors.folder().string(), ": ", name, " says ",
             shape_string(stored), "; the configuration promises [", n, ", ", k,
             "]; config.json may be another model's");
    }
    if (tensors.has(linear + ".weight_g_idx"))
      fail(ErrorKind::kUnsupported, kWhere, tensors.folder().string(), ": ", linear,
           " has a weight_g_idx (act-order); crumb reads groups of neighboring inputs only");
    const bool symmetric = spec.grid == quant::Grid::kSignedSym;
    if (!symmetric && bytes)
      tensors.check_shape(linear + ".weight_zero_point", {n, spec.groups(k)});
    else if (!symmetric)
      tensors.check_shape(
          linear + ".weight_zero_point",
          {quant::packed_words(n, spec.bits, zero_layout_of(tensors, linear, n, spec)), spec.groups(k)});
  }

  quant::QuantizedLinear read(const TensorTable& tensors, const std::string& linear, std::int64_t n,
                              std::int64_t k, const quant::AffineSpec& spec) const override {
    const bool symmetric = spec.grid == quant::Grid::kSignedSym;
    if (in_bytes(tensors, linear)) {
      CompressedBytes parts{
          n, k, tensors.bytes_of_codes(linear + ".weight"), tensors.floats(linear + ".weight_scale"), {}};
      if (!symmetric) parts.zero_points = tensors.bytes_of_codes(linear + ".weight_zero_point");
      return unpack_bytes_compressed(parts, spec, linear);
    }
    CompressedParts parts{
        n, k, tensors.words(linear + ".weight_packed"), tensors.floats(linear + ".weight_scale"), {}};
    if (!symmetric) parts.zero_points = tensors.words(linear + ".weight_zero_point");
    return unpack_compressed(parts, spec, layout_of(tensors, linear, k, spec),
                             symmetric ? quant::WordLayout::kDense : zero_layout_of(tensors, linear, n, spec),
                             linear);
  }

 private:
  /// int-quantized: a byte a code, under the name that floats have elsewhere.
  static bool in_bytes(const TensorTable& tensors, std::string_view linear) {
    const std::string weight = cat(linear, ".weight");
    return tensors.has(weight) && tensors.info(weight).dtype == DType::kI8;
  }
  static quant::WordLayout layout_of(const TensorTable& tensors, const std::string& linear, std::int64_t k,
                                     const quant::AffineSpec& spec) {
    const auto& shape = tensors.info(linear + ".weight_packed").shape;
    return layout_of_words(shape.empty() ? 0 : shape.back(), k, spec.bits);
  }
  static quant::WordLayout zero_layout_of(const TensorTable& tensors, const std::string& linear,
                                          std::int64_t n, const quant::AffineSpec& spec) {
    const std::string name = linear + ".weight_zero_point";
    const auto shape = tensors.has(name) ? tensors.info(name).shape : std::vector<std::int64_t>{};
    return layout_of_words(shape.empty() ? 0 : shape.front(), n, spec.bits);
  }

  std::optional<quant::ActivationScheme> activations_;
};

/// Of input_activations; nullopt where there are none.
std::optional<quant::ActivationScheme> parse_activations(const ordered_json& group,
                                                         std::string_view subject) {
  const ordered_json* json = ConfigFields(group, kWhere, subject).object("input_activations");
  if (json == nullptr) return std::nullopt;
  const ConfigFields fields(*json, kWhere, subject);
  const auto refuse = [&](const auto&... parts) {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": input_activations: ", parts...);
  };
  if (const std::string type = fields.text("type"); !type.empty() && type != "int")
    refuse("type '", type, "'; crumb reads int");
  quant::ActivationScheme scheme;
  const std::int64_t bits = fields.integer("num_bits");
  if (bits < 2 || bits > 8) refuse("num_bits is ", bits, "; known are 2 to 8");
  scheme.bits = static_cast<int>(bits);
  scheme.symmetric = fields.flag("symmetric", true);
  const std::string strategy = fields.text("strategy");
  const ordered_json* dynamic = fields.find("dynamic");
  const bool made_anew = dynamic != nullptr && *dynamic == true;
  if (strategy == "tensor" && !made_anew && scheme.symmetric)
    scheme.inputs = quant::Granularity::kPerTensor;
  else if (strategy != "token" || !made_anew)
    refuse(scheme.symmetric ? "" : "not symmetric, ", "strategy '", strategy, "', dynamic ",
           dynamic == nullptr ? "false" : dynamic->dump(),
           "; crumb reads dynamic ones per token, and static symmetric ones per tensor");
  return scheme;
}

/// Of one entry of config_groups.
quant::AffineSpec parse_weights(const ordered_json& group, std::string_view subject) {
  const ConfigFields fields(group, kWhere, subject);
  const std::string format = fields.text("format");
  if (!format.empty() && format != "pack-quantized" && format != "int-quantized")
    fail(ErrorKind::kUnsupported, kWhere, subject, ": a group has format '", format,
         "'; crumb reads pack-quantized and int-quantized");
  if (fields.find("output_activations") != nullptr)
    fail(ErrorKind::kUnsupported, kWhere, subject,
         ": output_activations are quantized; crumb reads models that quantize inputs alone");
  const ordered_json* json = fields.object("weights");
  if (json == nullptr)
    fail(ErrorKind::kUnsupported, kWhere, subject,
         ": a group without weights; crumb reads quantized weights");
  const ConfigFields weights(*json, kWhere, subject);
  if (const std::string type = weights.text("type"); !type.empty() && type != "int")
    fail(ErrorKind::kUnsupported, kWhere, subject, ": type '", type, "'; crumb reads int");
  const std::int64_t bits = weights.integer("num_bits");
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
    fail(ErrorKind::kUnsupported, kWhere, subject, ": num_bits is ", bits, "; known are 2, 3, 4 and 8");
  std::string strategy = weights.text("strategy");
  const std::int64_t group_size = weights.integer("group_size", -1);
  if (strategy.empty()) strategy = group_size > 0 ? "group" : "channel";
  if (strategy != "group" && strategy != "channel")
    fail(ErrorKind::kUnsupported, kWhere, subject, ": strategy '", strategy,
         "'; known are group and channel");
  if (strategy == "group" && group_size <= 0)
    fail(ErrorKind::kCorrupt, kWhere, subject, ": group_size is ", group_size,
         "; strategy group wants a positive number");
  if (const ordered_json* order = weights.find("actorder"); order != nullptr) {
    const std::string text = order->is_string() ? order->get<std::string>() : order->dump();
    // "weight" and "static" order the search and leave neighboring inputs in a group.
    if (text != "weight" && text != "static" && text != "false")
      fail(ErrorKind::kUnsupported, kWhere, subject, ": actorder '", text,
           "'; crumb reads groups of neighboring inputs only");
  }
  return {static_cast<int>(bits), strategy == "channel" ? -1 : group_size,
          weights.flag("symmetric", true) ? quant::Grid::kSignedSym : quant::Grid::kAsym};
}

}  // namespace

std::unique_ptr<PackedReader> make_compressed_tensors_reader(const ordered_json& quantization,
                                                             std::string_view subject) {
  const ConfigFields fields(quantization, kWhere, subject);
  if (const std::string format = fields.text("format");
      format != "pack-quantized" && format != "int-quantized" && format != "mixed-precision")
    fail(ErrorKind::kUnsupported, kWhere, subject, ": format '", format,
         "'; crumb reads pack-quantized and int-quantized");
  if (fields.find("kv_cache_scheme") != nullptr)
    fail(ErrorKind::kUnsupported, kWhere, subject,
         ": kv_cache_scheme is set; crumb reads models whose cache is not quantized by the checkpoint");
  for (const char* key : {"transform_config", "sparsity_config"}) {
    const ordered_json* value = fields.find(key);
    if (value != nullptr && !value->empty() && value->value("format", "") != "dense")
      fail(ErrorKind::kUnsupported, kWhere, subject, ": ", key,
           " is set; crumb reads plain quantized weights");
  }
  const ordered_json* groups = fields.object("config_groups");
  if (groups == nullptr || groups->empty())
    fail(ErrorKind::kCorrupt, kWhere, subject, ": no config_groups; want at least one");

  // The library's order: what is ignored, then exact names, then expressions, then classes.
  LinearSpecs specs;
  using Match = LinearSpecs::Match;
  const auto text_of = [&](const ordered_json& target) {
    if (!target.is_string())
      fail(ErrorKind::kCorrupt, kWhere, subject, ": ", target.dump(),
           " among targets or ignore; expected a name");
    return target.get<std::string>();
  };
  if (const ordered_json* ignore = fields.array("ignore")) {
    for (const ordered_json& entry : *ignore) {
      const std::string text = text_of(entry);
      if (text == "Linear")
        fail(ErrorKind::kUnsupported, kWhere, subject, ": every Linear is ignored; nothing is quantized");
      if (text.starts_with("re:"))
        specs.add(Match::kBegin, text.substr(3), std::nullopt, subject);
      else
        specs.add(Match::kName, text, std::nullopt, subject);
    }
  }
  const std::optional<quant::ActivationScheme> activations = parse_activations(*groups->begin(), subject);
  for (const auto& [name, group] : groups->items()) {
    if (parse_activations(group, subject) != activations)
      fail(
          ErrorKind::kUnsupported, kWhere, subject, ": group '", name,
          "' has other input_activations than the first; crumb reads models that have them alike everywhere");
  }
  for (const bool expressions : {false, true}) {
    for (const auto& [name, group] : groups->items()) {
      const quant::AffineSpec spec = parse_weights(group, subject);
      const ordered_json* targets = ConfigFields(group, kWhere, subject).array("targets");
      if (targets == nullptr)
        fail(ErrorKind::kCorrupt, kWhere, subject, ": group '", name, "' has no targets");
      for (const ordered_json& target : *targets) {
        const std::string text = text_of(target);
        if (text.starts_with("re:")) {
          if (expressions) specs.add(Match::kBegin, text.substr(3), spec, subject);
        } else if (text == "Linear") {
          if (!specs.otherwise()) specs.set_otherwise(spec);
        } else if (!expressions) {
          specs.add(Match::kName, text, spec, subject);
        }
      }
    }
  }
  return std::make_unique<CompressedReader>(std::move(specs), activations);
}

}  // namespace crumb::formats
