// AWQ's configuration, and its tensors in a directory. docs/formats/awq.md.
#include "formats/awq.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/config_fields.h"
#include "formats/packed_reader.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;

class AwqReader final : public PackedReader {
 public:
  AwqReader(LinearSpecs specs, bool symmetric) : symmetric_(symmetric) { specs_ = std::move(specs); }
  std::string_view name() const override { return "AWQ"; }

  bool holds(const TensorTable& tensors, std::string_view linear) const override {
    return tensors.has(cat(linear, ".qweight"));
  }
  void check(const TensorTable& tensors, const std::string& linear, std::int64_t n, std::int64_t k,
             const quant::AffineSpec& spec) const override {
    tensors.check_shape(linear + ".qweight", {k, n / 8});
    tensors.check_shape(linear + ".qzeros", {spec.groups(k), n / 8});
    tensors.check_shape(linear + ".scales", {spec.groups(k), n});
  }
  quant::QuantizedLinear read(const TensorTable& tensors, const std::string& linear, std::int64_t n,
                              std::int64_t k, const quant::AffineSpec& spec) const override {
    quant::QuantizedLinear out =
        unpack_awq({n, k, tensors.words(linear + ".qweight"), tensors.words(linear + ".qzeros"),
                    tensors.floats(linear + ".scales")},
                   spec, linear);
    // auto-round says zero_point false and writes eights; what other tools mean by it is not known.
    if (symmetric_ &&
        !std::all_of(out.zero_points.begin(), out.zero_points.end(), [](std::uint8_t z) { return z == 8; })) {
      fail(ErrorKind::kUnsupported, "formats.awq", linear,
           ": zero_point is false and its qzeros are not all 8; crumb reads AWQ with zero points, or "
           "symmetric "
           "with these");
    }
    return out;
  }

 private:
  bool symmetric_;
};

}  // namespace

std::unique_ptr<PackedReader> make_awq_reader(const ordered_json& quantization, std::string_view subject) {
  constexpr std::string_view kWhere = "formats.awq";
  const ConfigFields fields(quantization, kWhere, subject);
  std::string version = fields.text("version");
  std::transform(version.begin(), version.end(), version.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  if (!version.empty() && version != "gemm")
    fail(ErrorKind::kUnsupported, kWhere, subject, ": version '", version, "'; crumb reads gemm");
  const quant::AffineSpec spec = fields.spec();
  if (spec.bits != 4)
    fail(ErrorKind::kUnsupported, kWhere, subject, ": bits is ", spec.bits, "; AWQ's gemm layout has 4");
  // modules_to_not_convert needs no rule: such linears have no qweight.
  return std::make_unique<AwqReader>(LinearSpecs(spec), !fields.flag("zero_point", true));
}

}  // namespace crumb::formats
