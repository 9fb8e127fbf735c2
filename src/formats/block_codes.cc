#include "formats/block_codes.h"

#include "base/error.h"

namespace crumb::formats {
namespace {

bool has_grid(const Checkpoint& source, const std::string& weight) {
  return source.has(weight) && source.grid_of(weight);
}

}  // namespace

std::optional<quant::QuantizedLinear> codes_of(const Checkpoint& source, const std::string& linear) {
  if (auto packed = source.read_packed(linear)) return packed;
  const std::string weight = linear + ".weight";
  return has_grid(source, weight) ? std::optional(source.read_codes(weight)) : std::nullopt;
}

std::optional<quant::AffineSpec> spec_of_codes(const Checkpoint& source, const std::string& linear) {
  if (auto spec = source.packed_spec_of(linear)) return spec;
  const std::string weight = linear + ".weight";
  return has_grid(source, weight) ? source.grid_of(weight) : std::nullopt;
}

std::vector<std::string> block_linears(const model::ModelConfig& config) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    for (const model::LinearRole role : model::linear_roles(config))
      names.push_back(model::linear_name(i, role));
  }
  return names;
}

void check_part_size(std::string_view where, std::string_view linear, std::string_view part,
                     std::size_t found, std::int64_t expected, std::int64_t n, std::int64_t k,
                     const quant::AffineSpec& spec, std::string_view fields) {
  if (found == static_cast<std::size_t>(expected)) return;
  fail(ErrorKind::kCorrupt, where, linear, ": ", part, " has ", found, " elements; expected ", expected,
       " for [", n, ", ", k, "] at ", quant::scheme_name(spec), "; ", fields,
       " of the configuration belong to this file?");
}

}  // namespace crumb::formats
