#include "quant/spec.h"

#include "base/error.h"

namespace crumb::quant {

std::string_view to_string(Grid grid) noexcept {
  return grid == Grid::kAsym ? "asym" : "signed-sym";
}

Grid parse_grid(std::string_view text) {
  if (text == "asym") return Grid::kAsym;
  if (text == "signed-sym") return Grid::kSignedSym;
  fail(ErrorKind::kInvalidArgument, "quant.parse_grid", "grid '", text,
       "': unknown; expected asym or signed-sym");
}

void check_spec(const AffineSpec& spec, std::int64_t k, std::string_view name) {
  if (spec.bits != 2 && spec.bits != 3 && spec.bits != 4 && spec.bits != 8) {
    fail(ErrorKind::kInvalidArgument, "quant.check_spec", name, ": bits is ", spec.bits,
         "; expected 2, 3, 4 or 8");
  }
  check_grid(spec, k, name);
}

void check_grid(const AffineSpec& spec, std::int64_t k, std::string_view name) {
  if (spec.bits < 2 || spec.bits > 8) {
    fail(ErrorKind::kInvalidArgument, "quant.check_spec", name, ": bits is ", spec.bits,
         "; expected 2 to 8");
  }
  if (spec.group_size != -1 && spec.group_size <= 0) {
    fail(ErrorKind::kInvalidArgument, "quant.check_spec", name, ": group_size is ", spec.group_size,
         "; expected a positive number, or -1 for one group per row");
  }
  if (k % spec.group_of(k) != 0) {
    std::string fitting;
    for (const std::int64_t g : {32, 64, 128, 256}) {
      if (k % g == 0) fitting += cat(fitting.empty() ? "" : ", ", g);
    }
    fail(ErrorKind::kInvalidArgument, "quant.check_spec", name, ": group_size ", spec.group_size,
         " does not divide its ", k, " inputs; choose one that does",
         fitting.empty() ? " or -1" : cat(", for example ", fitting, " or -1"));
  }
}

std::string scheme_name(const AffineSpec& spec) {
  return spec.group_size == -1 ? cat("w", spec.bits) : cat("w", spec.bits, "g", spec.group_size);
}

}  // namespace crumb::quant
