#include "pipeline/e2e_checkpoint.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "io/safetensors.h"
#include "pipeline/load_model.h"

namespace crumb::pipeline {

using State = methods::efficientqat::E2eQp::State;

namespace {

void add(std::vector<io::TensorToWrite>& out, const std::string& kind, const std::vector<at::Tensor>& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor value = tensors[i].to(at::kCPU).contiguous();
    out.push_back({cat(kind, ".", i), DType::kF32, value.sizes().vec(), [value] {
                     return io::bytes_of(std::span(value.const_data_ptr<float>(), static_cast<std::size_t>(value.numel())));
                   }});
  }
}

std::vector<at::Tensor> read(const io::SafetensorsFile& file, const std::string& kind) {
  std::vector<at::Tensor> tensors;
  for (std::size_t i = 0; file.find(cat(kind, ".", i)) != nullptr; ++i) {
    const std::string name = cat(kind, ".", i);
    tensors.push_back(tensor_from(file.read_f32(name), file.at(name).shape));
  }
  return tensors;
}

}  // namespace

void save_e2e_checkpoint(const std::filesystem::path& path, const State& state) {
  std::vector<io::TensorToWrite> tensors;
  add(tensors, "scale", state.scales);
  add(tensors, "first_moment", state.first_moments);
  add(tensors, "second_moment", state.second_moments);
  io::write_safetensors_atomically(path, std::move(tensors), {{"format", "crumb e2e_qp state 1"}, {"steps", std::to_string(state.steps)}});
}

State load_e2e_checkpoint(const std::filesystem::path& path) {
  const io::SafetensorsFile file(path);
  const auto steps = file.metadata().find("steps");
  if (steps == file.metadata().end()) fail(ErrorKind::kCorrupt, "pipeline.e2e_checkpoint", path.string(), ": no step count; give --restart");
  return {std::stoll(steps->second), read(file, "scale"), read(file, "first_moment"), read(file, "second_moment")};
}

void set_scales(quant::QuantizedLinear& linear, const at::Tensor& scale) {
  const at::Tensor values = scale.to(at::kCPU).contiguous();
  CRUMB_CHECK(values.numel() == static_cast<std::int64_t>(linear.scales.size()));
  for (std::size_t i = 0; i < linear.scales.size(); ++i) {
    linear.scales[i] = round_to_f16(values.const_data_ptr<float>()[i]);
    if (!std::isfinite(linear.scales[i])) {
      fail(ErrorKind::kNumerics, "pipeline.e2e_checkpoint", "scale ", i, ": ", values.const_data_ptr<float>()[i],
           " does not fit binary16; want numbers below 65504; lower e2e_qp.lr");
    }
  }
}

}  // namespace crumb::pipeline
