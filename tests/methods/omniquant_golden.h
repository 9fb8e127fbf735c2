// The authors' OmniQuant runs as crumb's structures: settings from a file's metadata, models by the name
// given there.
#pragma once
#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "methods/omniquant/block_training.h"
#include "methods/tiny_golden.h"
#include "nn/causal_lm.h"
#include "support/golden_file.h"

namespace crumb::test {

inline io::SafetensorsFile model_of(const io::SafetensorsFile& run) {
  return io::SafetensorsFile(run.path().parent_path() / (run.metadata().at("model") + ".safetensors"));
}

inline methods::omniquant::Settings omniquant_settings(const io::SafetensorsFile& run) {
  methods::omniquant::Settings s;
  s.mode = methods::omniquant::Mode::kParity;
  s.weight_bits = static_cast<int>(int_setting(run, "weight_bits"));
  s.group_size = int_setting(run, "group_size");
  s.activation_bits = s.kv_bits = static_cast<int>(int_setting(run, "activation_bits"));
  s.lwc = int_setting(run, "lwc") != 0;
  s.let = int_setting(run, "let") != 0;
  s.alpha = setting(run, "alpha");
  s.epochs = int_setting(run, "epochs");
  s.batch = int_setting(run, "batch");
  s.lwc_lr = setting(run, "lwc_lr");
  s.let_lr = setting(run, "let_lr");
  s.aug_loss = int_setting(run, "aug_loss") != 0;
  if (run.metadata().contains("symmetric") && int_setting(run, "symmetric") != 0)
    s.scheme = nn::RangeQuant::Scheme::kSymmetric;
  return s;
}

/// The authors' name of a site's factors, without "_smooth_scale".
inline std::string authors_name(methods::Site site) {
  switch (site) {
    case methods::Site::kAttentionInput:
      return "qkv";
    case methods::Site::kMlpInput:
      return "fc1";
    case methods::Site::kValueOutput:
      return "out";
    default:
      return "qkt";
  }
}

/// Calls f(name, tensor) for every trained tensor that is defined, by the authors' names.
template <class Parameters, class F>
void for_each_parameter(Parameters& parameters, const F& f) {
  for (auto& pair : parameters.let) f(authors_name(pair.site.site) + "_smooth_scale", pair.scale);
  for (const model::LinearRole role : model::kLinearRoles) {
    auto& linear = parameters.lwc[static_cast<std::size_t>(role)];
    if (!linear.up.defined()) continue;
    const std::string stem(model::hf_name(role));
    f(stem + ".weight_quantizer.upbound_factor", linear.up);
    f(stem + ".weight_quantizer.lowbound_factor", linear.low);
  }
}

/// All windows of a tensor [W, T, H].
inline calib::ActivationStore store_of(const at::Tensor& windows) {
  calib::ActivationStore store(windows.size(0), windows.size(1), windows.size(2), {});
  store.write(0, windows);
  return store;
}

/// The block's outputs, one window at a time as the authors' runs have it.
inline at::Tensor outputs(const nn::DecoderBlock& block, const at::Tensor& windows, const nn::RopeTable& rope,
                          const nn::Compute& compute) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> out;
  for (std::int64_t w = 0; w < windows.size(0); ++w)
    out.push_back(block.forward(windows.narrow(0, w, 1), rope, compute));
  return at::cat(out);
}

/// embed[input_ids] of a model file, [W, T, H].
inline at::Tensor first_stream(const io::SafetensorsFile& model) {
  const auto& shape = model.at("input_ids").shape;
  return at::embedding(tensor(model, "model.embed_tokens.weight"),
                       nn::ids_tensor(model.read_i32("input_ids"), shape[0], shape[1], at::kCPU));
}

/// ||a - b|| / ||b||.
inline double relative_l2(const at::Tensor& a, const at::Tensor& b) {
  const double size = b.norm().item<double>();
  return (a - b).norm().item<double>() / (size > 0 ? size : 1);
}

}  // namespace crumb::test
