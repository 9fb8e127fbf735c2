#include "quant/activation_scheme.h"

#include "base/error.h"
#include "base/str.h"

namespace crumb::quant {

void check_activation_scheme(const ActivationScheme& scheme, std::string_view subject) {
  for (const auto& [name, bits] :
       {std::pair{"activations", scheme.bits}, std::pair{"keys and values", scheme.kv_bits}}) {
    if (!is_activation_bits(bits)) {
      fail(ErrorKind::kInvalidArgument, "quant.activation_scheme", subject, ": ", name, " of ", bits,
           " bits: not supported; want 2 … 8, or 16 for no rounding");
    }
  }
}

std::string scheme_name(const ActivationScheme& scheme) {
  if (!scheme.rounds()) return "";
  return cat("a", scheme.bits, scheme.kv_bits < 16 ? cat("kv", scheme.kv_bits) : "",
             scheme.symmetric ? "" : " asym");
}

}  // namespace crumb::quant
