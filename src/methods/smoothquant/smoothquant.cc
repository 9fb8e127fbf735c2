#include "methods/smoothquant/smoothquant.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "base/parallel_for.h"
#include "methods/arguments.h"
#include "quant/affine.h"
#include "quant/stored_scale.h"

namespace crumb::methods::smoothquant {

using at::Tensor;

namespace {

constexpr const char* kWhere = "methods.smoothquant";
constexpr float kFloor = 1e-5f;
constexpr std::int32_t kLargest = 127, kZero = 128;
const quant::AffineSpec kRows{8, -1, quant::Grid::kSignedSym};

// Codes + 128 of one row, which is `count` numbers; returns the step.
float quantize_row(const float* x, std::int64_t count, bool scale_f16, std::uint8_t* codes) {
  float largest = kFloor;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(x[i]));
  const float step = quant::stored_scale(largest / static_cast<float>(kLargest), scale_f16);
  for (std::int64_t i = 0; i < count; ++i) {
    // Never -128 or 128: rounding the step to binary16 makes at most 127 (1 + 2^-11) of the largest weight.
    codes[i] = static_cast<std::uint8_t>(quant::quantize_one(x[i], step, kZero, kRows.max_code()));
  }
  return step;
}

}  // namespace

Tensor weight_absmax(const std::vector<Tensor>& weights) {
  const at::NoGradGuard no_grad;
  if (weights.empty()) {
    fail(ErrorKind::kInvalidArgument, kWhere,
         "weights: none; expected those of the linears that read the site");
  }
  Tensor most;
  for (const Tensor& w : weights) {
    check_matrix(w, weights.front().size(-1), "weight", kWhere);
    const Tensor own = w.abs().amax(at::IntArrayRef{0});
    most = most.defined() ? at::maximum(most, own) : own;
  }
  return most;
}

Tensor smoothing_scales(const Tensor& x_absmax, const Tensor& w_absmax, double alpha) {
  const at::NoGradGuard no_grad;
  if (!(alpha >= 0 && alpha <= 1)) {
    fail(ErrorKind::kInvalidArgument, kWhere, "alpha ", alpha,
         "; expected a number from 0 (all in the activations) to 1");
  }
  check_channels(x_absmax, x_absmax.size(0), 0, "largest |x|", kWhere);
  check_channels(w_absmax, x_absmax.size(0), 0, "largest |w|", kWhere);
  return (x_absmax.clamp_min(kFloor).pow(alpha) / w_absmax.clamp_min(kFloor).pow(1 - alpha))
      .clamp_min(kFloor);
}

quant::QuantizedLinear quantize_weight(const Tensor& w, bool scale_f16) {
  const at::NoGradGuard no_grad;
  check_weight(w, kRows, kWhere);
  const Tensor weight = w.detach().to(at::kCPU).contiguous();
  const std::int64_t n = w.size(0), k = w.size(1);
  quant::QuantizedLinear out{n, k, kRows, {}, {}, {}};
  out.codes.resize(static_cast<std::size_t>(n * k));
  out.scales.resize(static_cast<std::size_t>(n));
  out.zero_points.assign(static_cast<std::size_t>(n), static_cast<std::uint8_t>(kZero));
  parallel_for(n, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      out.scales[static_cast<std::size_t>(row)] =
          quantize_row(weight.const_data_ptr<float>() + row * k, k, scale_f16, out.codes.data() + row * k);
    }
  });
  return out;
}

QuantizedTokens quantize_tokens(const Tensor& x) {
  const at::NoGradGuard no_grad;
  check_matrix(x, x.size(-1), "inputs", kWhere);
  const Tensor tokens = x.detach().to(at::kCPU).contiguous();
  const std::int64_t m = x.size(0), k = x.size(1);
  QuantizedTokens out{at::empty({m, k}, at::kChar), at::empty({m}, at::kFloat)};
  std::int8_t* const codes = out.codes.mutable_data_ptr<std::int8_t>();
  float* const scales = out.scales.mutable_data_ptr<float>();
  parallel_for(m, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint8_t> row_codes(static_cast<std::size_t>(k));
    for (std::int64_t row = begin; row < end; ++row) {
      scales[row] = quantize_row(tokens.const_data_ptr<float>() + row * k, k, false, row_codes.data());
      for (std::int64_t i = 0; i < k; ++i) {
        codes[row * k + i] = static_cast<std::int8_t>(row_codes[static_cast<std::size_t>(i)] - kZero);
      }
    }
  });
  return out;
}

Tensor w8a8_product(const QuantizedTokens& x, const quant::QuantizedLinear& w) {
  const at::NoGradGuard no_grad;
  if (!(w.spec == kRows) || x.codes.size(1) != w.k) {
    fail(ErrorKind::kInvalidArgument, kWhere, "product: weight of ", quant::scheme_name(w.spec), " with ",
         w.k, " inputs and tokens of ", x.codes.size(1),
         "; expected one signed-sym group of 8 bits a row and equal sizes");
  }
  if (w.k > std::numeric_limits<std::int32_t>::max() / (kLargest * kLargest)) {
    fail(ErrorKind::kInvalidArgument, kWhere, "product: ", w.k, " inputs; expected at most ",
         std::numeric_limits<std::int32_t>::max() / (kLargest * kLargest), ", whose sum fits 32 bits");
  }
  const auto blob = [](const void* data, at::IntArrayRef shape, at::ScalarType type) {
    return at::from_blob(const_cast<void*>(data), shape, at::TensorOptions().dtype(type));  // only read
  };
  const Tensor w_codes = blob(w.codes.data(), {w.n, w.k}, at::kByte).to(at::kDouble) -
                         blob(w.zero_points.data(), {w.n, 1}, at::kByte).to(at::kDouble);
  const Tensor sums =
      at::mm(x.codes.to(at::kDouble), w_codes.t()).to(at::kFloat);  // [M, N], integers until here
  return sums * x.scales.unsqueeze(1) * blob(w.scales.data(), {w.n}, at::kFloat);
}

}  // namespace crumb::methods::smoothquant
