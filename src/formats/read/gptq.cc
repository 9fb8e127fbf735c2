// GPTQ tensors in a directory: qweight, qzeros, scales, g_idx. Two configurations speak of them: GPTQ's own
// and auto-round's. docs/formats/gptq.md, docs/formats/auto_round.md.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/config_fields.h"
#include "formats/gptq.h"
#include "formats/packed_reader.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;

class GptqReader final : public PackedReader {
 public:
  GptqReader(std::string_view name, LinearSpecs specs, GptqZeros zeros, std::optional<int> head_bits)
      : name_(name), zeros_(zeros), head_bits_(head_bits) {
    specs_ = std::move(specs);
  }
  std::string_view name() const override { return name_; }
  std::optional<int> head_bits() const override { return head_bits_; }

  bool holds(const TensorTable& tensors, std::string_view linear) const override {
    return tensors.has(cat(linear, ".qweight"));
  }

  void check(const TensorTable& tensors, const std::string& linear, std::int64_t n, std::int64_t k,
             const quant::AffineSpec& spec) const override {
    const quant::WordLayout layout = layout_of(tensors, linear, k, spec);
    tensors.check_shape(linear + ".qweight", {quant::packed_words(k, spec.bits, layout), n});
    tensors.check_shape(linear + ".qzeros", {spec.groups(k), quant::packed_words(n, spec.bits, layout)});
    tensors.check_shape(linear + ".scales", {spec.groups(k), n});
    if (tensors.has(linear + ".g_idx")) tensors.check_shape(linear + ".g_idx", {k});
  }

  quant::QuantizedLinear read(const TensorTable& tensors, const std::string& linear, std::int64_t n,
                              std::int64_t k, const quant::AffineSpec& spec) const override {
    GptqTensors t{n,
                  k,
                  tensors.words(linear + ".qweight"),
                  tensors.words(linear + ".qzeros"),
                  tensors.floats(linear + ".scales"),
                  {}};
    if (tensors.has(linear + ".g_idx"))
      t.g_idx = tensors.file_of(linear + ".g_idx").read_i32(linear + ".g_idx");
    return unpack_gptq(t, spec, layout_of(tensors, linear, k, spec), zeros_, linear);
  }

 private:
  static quant::WordLayout layout_of(const TensorTable& tensors, const std::string& linear, std::int64_t k,
                                     const quant::AffineSpec& spec) {
    const auto& shape = tensors.info(linear + ".qweight").shape;
    return layout_of_words(shape.empty() ? 0 : shape.front(), k, spec.bits);
  }

  std::string_view name_;
  GptqZeros zeros_;
  std::optional<int> head_bits_;
};

}  // namespace

std::unique_ptr<PackedReader> make_gptq_reader(const ordered_json& quantization, std::string_view subject) {
  GptqConfig config = parse_gptq_config(quantization, subject);
  return std::make_unique<GptqReader>("GPTQ", std::move(config.specs), config.zeros, config.head_bits);
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
  return std::make_unique<GptqReader>("auto-round", std::move(specs), zeros, std::nullopt);
}

}  // namespace crumb::formats
