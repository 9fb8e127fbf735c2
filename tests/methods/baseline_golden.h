// The golden files of the baselines (golden/baselines): one linear, its inputs, and a file of cases for each
// method. A case says what it is in its name: "w4g64_actorder_static" is 4 bits in groups of 64 with two
// options.
#pragma once
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "methods/tiny_golden.h"
#include "quant/quantized_linear.h"
#include "quant/spec.h"

namespace crumb::test {

struct BaselineCase {
  std::string name;
  quant::AffineSpec spec;
  std::set<std::string> flags;
  bool has(const char* flag) const { return flags.count(flag) != 0; }
};

/// "w3pc_a_b": 3 bits, one group a row, flags a and b. A case is symmetric by the flag `symmetric`.
inline BaselineCase parse_case(const std::string& name, const char* symmetric) {
  BaselineCase c{name, {}, {}};
  std::istringstream in(name);
  std::string scheme, flag;
  std::getline(in, scheme, '_');
  while (std::getline(in, flag, '_')) c.flags.insert(flag);
  c.spec.bits = scheme.at(1) - '0';
  c.spec.group_size = scheme.substr(2) == "pc" ? -1 : std::stoll(scheme.substr(3));
  c.spec.grid = c.has(symmetric) ? quant::Grid::kSignedSym : quant::Grid::kAsym;
  return c;
}

/// The file of one method with the linear beside it.
struct Baseline {
  io::SafetensorsFile file;
  at::Tensor weight, x;  // [N, K], [M, K]

  static std::optional<Baseline> open(const std::string& method) {
    const auto files = golden_files("baselines", method + "."), data = golden_files("baselines", "data.");
    if (files.empty() || data.empty()) return std::nullopt;
    const io::SafetensorsFile linear(data.front());
    return Baseline{io::SafetensorsFile(files.front()), tensor(linear, "weight"), tensor(linear, "x")};
  }

  /// Cases that have a tensor "<case><suffix>".
  std::vector<BaselineCase> cases(const std::string& suffix, const char* symmetric) const {
    std::vector<BaselineCase> all;
    for (const io::TensorInfo& t : file.tensors()) {
      if (t.name.ends_with(suffix)) {
        all.push_back(parse_case(t.name.substr(0, t.name.size() - suffix.size()), symmetric));
      }
    }
    return all;
  }
};

inline at::Tensor codes_of(const quant::QuantizedLinear& q) {
  return at::tensor(at::ArrayRef<std::uint8_t>(q.codes)).view({q.n, q.k}).to(at::kInt);
}
inline at::Tensor scales_of(const quant::QuantizedLinear& q) {
  return at::tensor(at::ArrayRef<float>(q.scales)).view({q.n, -1});
}
inline at::Tensor zeros_of(const quant::QuantizedLinear& q) {
  return at::tensor(at::ArrayRef<std::uint8_t>(q.zero_points)).view({q.n, -1}).to(at::kFloat);
}
inline at::Tensor dequantized(const quant::QuantizedLinear& q) {
  const auto w_hat = quant::dequantize(q);
  return at::tensor(at::ArrayRef<float>(w_hat)).view({q.n, q.k});
}

inline std::int64_t differing(const at::Tensor& a, const at::Tensor& b) {
  return (a != b).sum().item<std::int64_t>();
}

/// Largest |a - b| / |b|.
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs() / b.abs().clamp_min(1e-30)).max().item<double>();
}

/// mean((x a^T - x b^T)^2) in f64.
inline double output_mse(const at::Tensor& x, const at::Tensor& a, const at::Tensor& b) {
  return at::mm(x.to(at::kDouble), (a.to(at::kDouble) - b.to(at::kDouble)).t())
      .square()
      .mean()
      .item<double>();
}

inline double scalar(const io::SafetensorsFile& file, const std::string& name) {
  return file.read_f32(name).at(0);
}

}  // namespace crumb::test

#define CRUMB_OPEN_BASELINE(variable, method)                                                 \
  const auto opened_##variable = ::crumb::test::Baseline::open(method);                       \
  if (!opened_##variable)                                                                     \
    GTEST_SKIP() << "golden/baselines/" method ".safetensors is not here (set CRUMB_SHARED)"; \
  const ::crumb::test::Baseline& variable = *opened_##variable
