// MLX's configuration, and its tensors in a directory. docs/formats/mlx.md.
#include "formats/mlx.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/checkpoint_readers.h"
#include "formats/config_fields.h"
#include "formats/packed_reader.h"
#include "model/family.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;
constexpr std::string_view kWhere = "formats.mlx";

class MlxReader final : public PackedReader {
 public:
  explicit MlxReader(LinearSpecs specs) { specs_ = std::move(specs); }
  std::string_view name() const override { return "MLX"; }

  bool holds(const TensorTable& tensors, std::string_view linear) const override {
    return tensors.has(cat(linear, ".scales"));
  }
  void check(const TensorTable& tensors, const std::string& linear, std::int64_t n, std::int64_t k,
             const quant::AffineSpec& spec) const override {
    if (k * spec.bits % 32 != 0)
      fail(ErrorKind::kCorrupt, kWhere, tensors.folder().string(), ": ", linear, ": K = ", k, " at ",
           spec.bits, " bits does not fill whole words; config.json may be another model's");
    tensors.check_shape(linear + ".weight", {n, k * spec.bits / 32});
    tensors.check_shape(linear + ".scales", {n, spec.groups(k)});
    tensors.check_shape(linear + ".biases", {n, spec.groups(k)});
  }
  quant::QuantizedLinear read(const TensorTable& tensors, const std::string& linear, std::int64_t n,
                              std::int64_t k, const quant::AffineSpec& spec) const override {
    return unpack_mlx(parts_of(tensors, linear, n, k), spec, tensors.info(linear + ".biases").dtype, linear);
  }

  std::vector<std::int64_t> matrix_shape(const TensorTable& tensors, std::string_view name) const override {
    const std::string module = module_of(name);
    if (module.empty() || !holds(tensors, module)) return {};
    const auto spec = spec_of(tensors, module);
    const auto& stored = tensors.info(name).shape;
    if (stored.size() != 2 || stored[1] * 32 % spec.bits != 0)
      fail(ErrorKind::kCorrupt, kWhere, tensors.folder().string(), ": '", name, "' has shape ",
           shape_string(stored), ", which holds no rows of ", spec.bits, "-bit codes");
    return {stored[0], stored[1] * 32 / spec.bits};
  }
  std::vector<float> read_matrix(const TensorTable& tensors, std::string_view name) const override {
    const auto shape = matrix_shape(tensors, name);
    const std::string module = module_of(name);
    const auto spec = spec_of(tensors, module);
    quant::check_spec(spec, shape[1], module);
    check(tensors, module, shape[0], shape[1], spec);
    std::vector<float> values =
        dequantize_mlx(parts_of(tensors, module, shape[0], shape[1]), spec.bits, spec.group_of(shape[1]));
    check_finite(values, tensors.folder().string(), name);
    return values;
  }

 private:
  static std::string module_of(std::string_view name) {
    if (name != model::kEmbeddingName && name != model::kHeadName) return {};
    return std::string(name.substr(0, name.size() - std::string_view(".weight").size()));
  }
  quant::AffineSpec spec_of(const TensorTable& tensors, const std::string& module) const {
    const auto spec = specs_.of(module);
    if (!spec)
      fail(ErrorKind::kCorrupt, kWhere, tensors.folder().string(), ": '", module,
           "' is stored as codes, but the configuration says false for it");
    return *spec;
  }
  static MlxParts parts_of(const TensorTable& tensors, const std::string& module, std::int64_t n,
                           std::int64_t k) {
    return {n, k, tensors.words(module + ".weight"), tensors.floats(module + ".scales"),
            tensors.floats(module + ".biases")};
  }
};

}  // namespace

std::unique_ptr<PackedReader> make_mlx_reader(const ordered_json& quantization, std::string_view subject) {
  const ConfigFields fields(quantization, kWhere, subject);
  const auto check_mode = [&](const ConfigFields& of) {
    const std::string mode = of.text("mode");
    if (!mode.empty() && mode != "affine")
      fail(ErrorKind::kUnsupported, kWhere, subject, ": mode '", mode, "'; crumb reads affine");
  };
  check_mode(fields);
  LinearSpecs specs(fields.spec());
  for (const auto& [name, value] : quantization.items()) {
    if (value.is_boolean()) {
      specs.add(LinearSpecs::Match::kName, name, value.get<bool>() ? specs.otherwise() : std::nullopt,
                subject);
    } else if (value.is_object()) {
      const ConfigFields own(value, kWhere, subject);
      check_mode(own);
      specs.add(LinearSpecs::Match::kName, name, own.spec_over(*specs.otherwise()), subject);
    }
  }
  return std::make_unique<MlxReader>(std::move(specs));
}

}  // namespace crumb::formats
