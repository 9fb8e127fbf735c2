// Tiny models on disk, float and packed, with the plain tensors that they stand for.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "formats/checkpoint.h"
#include "formats/hf_output.h"
#include "quant/affine.h"
#include "quant/codes.h"
#include "runtime/plain_model.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

namespace crumb::test {

inline PlainTensors plain_tensors(const TinyTensors& tensors) {
  PlainTensors plain;
  for (const auto& [name, tensor] : tensors) plain[name].assign(tensor.values.begin(), tensor.values.end());
  return plain;
}

/// Rounds every block linear of the float model in `from` to `spec` (min-max) and writes the packed directory
/// `to`, which says `activations` of its activations; `plain` gets their w_hat.
inline void write_packed_model(const std::filesystem::path& from, const std::filesystem::path& to,
                               const quant::AffineSpec& spec, PlainTensors& plain,
                               const std::optional<quant::ActivationScheme>& activations = {}) {
  const auto source = formats::Checkpoint::open(from);
  std::filesystem::create_directory(to);
  formats::HfOutputOptions options;
  options.spec = spec;
  options.activations = activations;
  formats::write_hf_gptq(*source, to, options, [&](std::int64_t block) {
    formats::PackedBlock packed;
    for (const model::LinearRole role : model::kLinearRoles) {
      const auto [n, k] = model::linear_shape(source->config(), role);
      const std::string name = model::linear_name(block, role) + ".weight";
      const std::vector<float> w = source->read_f32(name);
      const auto groups = static_cast<std::size_t>(n * spec.groups(k));
      std::vector<float> scales(groups), zeros(groups);
      quant::init_minmax(w, n, k, spec, scales, zeros);
      quant::QuantizedLinear linear{n, k, spec, std::vector<std::uint8_t>(w.size()), {}, {}};
      for (float& s : scales) s = round_to_f16(s);
      for (float& z : zeros) {
        z = spec.grid == quant::Grid::kSignedSym ? static_cast<float>(1 << (spec.bits - 1))
                                                 : quant::effective_zero_point(z, spec);
        linear.zero_points.push_back(static_cast<std::uint8_t>(z));
      }
      quant::quantize(w, scales, zeros, n, k, spec, linear.codes);
      linear.scales = scales;
      const std::vector<float> w_hat = quant::dequantize(linear);
      plain[name].assign(w_hat.begin(), w_hat.end());
      packed.linears[static_cast<std::size_t>(role)] = std::move(linear);
    }
    return packed;
  });
}

inline std::vector<std::int32_t> random_ids(std::size_t count, std::uint64_t seed) {
  SplitMix64 random(seed);
  std::vector<std::int32_t> ids(count);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.next() % kTinyVocabulary);
  return ids;
}

}  // namespace crumb::test
