// GPTQ tensors in a directory: qweight, qzeros, scales, g_idx. Two configurations speak of them: GPTQ's own
// and auto-round's. docs/formats/gptq.md, docs/formats/auto_round.md.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/config_fields.h"
#include "formats/gptq.h"
#include "formats/packed_reader.h"
#include "model/family.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;

class GptqReader final : public PackedReader {
 public:
  /// zeros nullopt: symmetric, so that each linear tells.
  GptqReader(std::string_view name, LinearSpecs specs, std::optional<GptqZeros> zeros,
             std::optional<int> head_bits = {}, bool act_order = false,
             std::optional<quant::ActivationScheme> activations = {}, int weight_bits = 0)
      : name_(name),
        zeros_(zeros),
        head_bits_(head_bits),
        act_order_(act_order),
        activations_(activations),
        weight_bits_(weight_bits) {
    specs_ = std::move(specs);
  }
  std::string_view name() const override { return name_; }
  std::optional<int> head_bits() const override { return head_bits_; }
  std::optional<quant::ActivationScheme> activation_scheme() const override { return activations_; }
  int weight_bits() const override { return weight_bits_; }

  bool holds(const TensorTable& tensors, std::string_view linear) const override {
    return tensors.has(cat(linear, ".qweight"));
  }

  void check(const TensorTable& tensors, const std::string& linear, std::int64_t n, std::int64_t k,
             const quant::AffineSpec& spec) const override {
    const quant::WordLayout layout = layout_of(tensors, linear, k, spec);
    tensors.check_shape(linear + ".qweight", {quant::packed_words(k, spec.bits, layout), n});
    tensors.check_shape(linear + ".qzeros", {spec.groups(k), quant::packed_words(n, spec.bits, layout)});
    tensors.check_shape(linear + ".scales", {spec.groups(k), n});
    if (tensors.has(linear + ".g_idx")) {
      tensors.check_shape(linear + ".g_idx", {k});  // whose values unpack_gptq looks at
    } else if (act_order_) {
      fail(ErrorKind::kUnsupported, "formats.parse_gptq_config", linear,
           ": desc_act is true (act-order) and there is no g_idx; crumb reads groups of neighboring inputs "
           "only; quantize with static groups or without act-order");
    }
  }

  quant::QuantizedLinear read(const TensorTable& tensors, const std::string& linear, std::int64_t n,
                              std::int64_t k, const quant::AffineSpec& spec) const override {
    GptqTensors t{n,
                  k,
                  tensors.words(linear + ".qweight"),
                  tensors.words(linear + ".qzeros"),
                  tensors.floats(linear + ".scales"),
                  {}};
    if (tensors.has(linear + ".g_idx")) t.g_idx = tensors.integers(linear + ".g_idx");
    const quant::WordLayout layout = layout_of(tensors, linear, k, spec);
    if (zeros_) return unpack_gptq(t, spec, layout, *zeros_, linear);
    quant::QuantizedLinear as_stored = unpack_gptq(t, spec, layout, GptqZeros::kV2, linear);
    const int half = 1 << (spec.bits - 1);
    const auto all_are = [&](int z) {
      return std::all_of(as_stored.zero_points.begin(), as_stored.zero_points.end(),
                         [z](std::uint8_t found) { return found == z; });
    };
    if (all_are(half - 1)) {  // v1
      std::fill(as_stored.zero_points.begin(), as_stored.zero_points.end(), static_cast<std::uint8_t>(half));
    } else if (!all_are(half)) {
      fail(ErrorKind::kCorrupt, "formats.read_gptq", linear,
           ": sym is true and checkpoint_format is missing; "
           "its zero points are not all stored as ",
           half - 1, " (v1) or all as ", half,
           " (v2), so neither fits; say --gptq-zeros v1 or v2 to crumb import if you know which tool wrote "
           "it");
    }
    return as_stored;
  }

 private:
  static quant::WordLayout layout_of(const TensorTable& tensors, const std::string& linear, std::int64_t k,
                                     const quant::AffineSpec& spec) {
    const auto& shape = tensors.info(linear + ".qweight").shape;
    return layout_of_words(shape.empty() ? 0 : shape.front(), k, spec.bits);
  }

  std::string_view name_;
  std::optional<GptqZeros> zeros_;
  std::optional<int> head_bits_;
  bool act_order_;
  std::optional<quant::ActivationScheme> activations_;
  int weight_bits_;
};

/// The grid that the shapes of qweight [words(K), N], qzeros [K/G, words(N)] and scales [K/G, N] leave.
/// kAsym.
quant::AffineSpec spec_of_shapes(const TensorTable& tensors, const std::string& linear, std::int64_t n,
                                 std::int64_t k) {
  const auto size = [&](const char* part, std::size_t dimension) {
    const std::vector<std::int64_t>& shape = tensors.info(cat(linear, ".", part)).shape;
    return dimension < shape.size() ? shape[dimension] : std::int64_t{0};
  };
  const std::int64_t words = size("qweight", 0), zeros = size("qzeros", 1), groups = size("scales", 0);
  for (const quant::WordLayout layout : {quant::WordLayout::kDense, quant::WordLayout::kPadded}) {
    for (const int bits : {2, 3, 4, 8}) {
      if (words == quant::packed_words(k, bits, layout) && zeros == quant::packed_words(n, bits, layout) &&
          groups > 0 && k % groups == 0)
        return {bits, groups == 1 ? -1 : k / groups, quant::Grid::kAsym};
    }
  }
  fail(ErrorKind::kCorrupt, "formats.read_gptq", linear, ": qweight has ", words, " rows, qzeros ", zeros,
       " columns and scales ", groups, " rows; for [", n, ", ", k,
       "] that is no packing of 2, 3, 4 or 8 bits; does config.json belong to these weights?");
}

}  // namespace

std::unique_ptr<PackedReader> make_gptq_reader(const ordered_json& quantization, std::string_view subject) {
  GptqConfig config = parse_gptq_config(quantization, subject);
  return std::make_unique<GptqReader>("GPTQ", std::move(config.specs), config.zeros, config.head_bits,
                                      config.act_order, config.activations, config.weight_bits);
}

std::unique_ptr<PackedReader> make_inferring_gptq_reader(const TensorTable& tensors,
                                                         const model::ModelConfig& config, GptqZeros zeros) {
  LinearSpecs specs;
  bool any = false;
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    for (const model::LinearRole role : model::linear_roles(config)) {
      const std::string linear = model::linear_name(i, role);
      if (!tensors.has(linear + ".qweight")) continue;
      const auto [n, k] = model::linear_shape(config, role);
      const quant::AffineSpec spec = spec_of_shapes(tensors, linear, n, k);
      if (!any) specs.set_otherwise(spec);
      if (any && spec != *specs.otherwise())
        specs.add(LinearSpecs::Match::kName, linear, spec, tensors.folder().string());
      any = true;
    }
  }
  if (!any) {
    fail(ErrorKind::kNotFound, "formats.read_gptq", tensors.folder().string(),
         ": no linear of the blocks has a qweight; expected GPTQ tensors; leave --gptq-zeros out");
  }
  return std::make_unique<GptqReader>("GPTQ", std::move(specs), zeros);
}

std::unique_ptr<PackedReader> make_auto_round_reader(const ordered_json& quantization,
                                                     std::string_view subject) {
  constexpr std::string_view kWhere = "formats.auto_round";
  const ConfigFields fields(quantization, kWhere, subject);
  const std::string packing = fields.text("packing_format");
  if (packing == "auto_round:auto_awq" || packing == "auto_round:awq")
    return make_awq_reader(quantization, subject);
  GptqZeros zeros = GptqZeros::kV2;
  if (packing == "auto_round:auto_gptq" || packing == "auto_round:gptq") {
    zeros = GptqZeros::kV1;
  } else if (packing != "auto_round" && packing != "auto_round:gptqmodel") {
    fail(packing.empty() ? ErrorKind::kCorrupt : ErrorKind::kUnsupported, kWhere, subject,
         ": packing_format '", packing,
         "'; known are auto_round, auto_round:gptqmodel (zero points as they are), auto_round:auto_gptq "
         "(stored "
         "as z - 1) and auto_round:auto_awq");
  }
  const auto check_type = [&](const ConfigFields& of, std::string_view what) {
    const std::string type = of.text("data_type");
    if (!type.empty() && type != "int" && type != "int_sym" && type != "int_asym" && type != "int_asym_dq")
      fail(ErrorKind::kUnsupported, kWhere, subject, ": ", what, ": data_type '", type,
           "'; crumb reads integer codes (int)");
    if (of.integer("act_bits", 16) < 16)
      fail(ErrorKind::kUnsupported, kWhere, subject, ": ", what, ": act_bits is ", of.integer("act_bits", 16),
           "; crumb reads models whose activations are not quantized");
  };
  check_type(fields, "the model");
  LinearSpecs specs(fields.spec());
  const auto is_pattern = [](std::string_view text) {
    return text.find_first_of("*+?^$()[]{}|\\") != std::string_view::npos;
  };
  if (const ordered_json* extra = fields.object("extra_config")) {
    // Whole names come before patterns, wherever they stand.
    for (const bool patterns : {false, true}) {
      for (const auto& [name, value] : extra->items()) {
        if (is_pattern(name) != patterns) continue;
        const ConfigFields own(value, kWhere, subject);
        const bool as_float = own.integer("bits", specs.otherwise()->bits) >= 16;
        if (!as_float) check_type(own, name);
        specs.add(patterns ? LinearSpecs::Match::kAnywhere : LinearSpecs::Match::kName, name,
                  as_float ? std::nullopt : std::optional(own.spec_over(*specs.otherwise())), subject);
      }
    }
  }
  return std::make_unique<GptqReader>("auto-round", std::move(specs), zeros);
}

}  // namespace crumb::formats
