#include "formats/export_check.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/interrupt.h"
#include "base/str.h"
#include "formats/block_codes.h"
#include "formats/float_parts.h"
#include "quant/relative_error.h"
#include "quant/restate.h"

namespace crumb::formats {
namespace {

/// The first place where two linears differ, in words; empty where none does.
std::string first_difference(quant::QuantizedLinear a, quant::QuantizedLinear b) {
  if (a.n != b.n || a.k != b.k) return cat("shapes [", a.n, ", ", a.k, "] and [", b.n, ", ", b.k, "]");
  const std::int64_t group = std::gcd(a.spec.group_of(a.k), b.spec.group_of(b.k)), groups = a.k / group;
  a = quant::split_groups(std::move(a), group);
  b = quant::split_groups(std::move(b), group);
  for (std::size_t g = 0; g < a.scales.size(); ++g) {
    const float sign = a.scales[g] == b.scales[g] ? 1.0f : -1.0f;
    const auto where = [&] {
      return cat("row ", static_cast<std::int64_t>(g) / groups, ", group ",
                 static_cast<std::int64_t>(g) % groups);
    };
    if (a.scales[g] != sign * b.scales[g])
      return cat(where(), ": scale ", a.scales[g], " became ", b.scales[g]);
    for (std::size_t i = g * static_cast<std::size_t>(group); i < (g + 1) * static_cast<std::size_t>(group);
         ++i) {
      const int x = a.codes[i] - a.zero_points[g], y = b.codes[i] - b.zero_points[g];
      if (x != (sign > 0 ? y : -y) && a.scales[g] != 0)
        return cat(where(), ": code ", static_cast<std::int64_t>(i) % group, " stands for ", x, " and for ",
                   y, " scales");
    }
  }
  return {};
}

}  // namespace

ExportCheck check_export(const Checkpoint& source, const std::filesystem::path& path,
                         const ExportReport& report, bool exact_floats) {
  const auto back = Checkpoint::open(path);
  ExportCheck out;
  const auto values_of = [](const Checkpoint& of, const std::string& linear) {
    const auto codes = of.read_packed(linear);
    return codes ? quant::dequantize(*codes) : of.read_f32(linear + ".weight");
  };
  for (const std::string& name : block_linears(source.config())) {
    throw_if_interrupted("formats.export_check");
    const auto lossy = std::find_if(report.lossy.begin(), report.lossy.end(),
                                    [&](const auto& entry) { return entry.first.linear == name; });
    if (lossy != report.lossy.end()) {
      const double error = quant::relative_error(values_of(source, name), values_of(*back, name));
      ++out.lossy;
      if (!(std::abs(error - lossy->second) <= 1e-6))
        out.faults.push_back(cat(name, ": relative error ", error, "; the report says ", lossy->second));
      continue;
    }
    const auto a = codes_of(source, name), b = codes_of(*back, name);
    std::string difference;
    if (a && b) {
      difference = first_difference(*a, *b);
      out.codes += static_cast<std::int64_t>(a->codes.size());
      out.scales += static_cast<std::int64_t>(a->scales.size());
    } else {
      const std::vector<float> x = values_of(source, name), y = values_of(*back, name);
      const auto differ = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
      if (differ.first != x.end() || differ.second != y.end())
        difference = cat("weight ", differ.first - x.begin(), " differs");
      out.weights += static_cast<std::int64_t>(x.size());
    }
    if (difference.empty())
      ++out.linears;
    else
      out.faults.push_back(cat(name, ": ", difference));
  }
  const auto compare_floats = [&](const model::PromisedTensor& tensor) {
    if (tensor.linear_weight) return;
    if (source.shape(tensor.name) != back->shape(tensor.name)) {
      out.faults.push_back(cat(tensor.name, ": its shape differs"));
      return;
    }
    quant::RelativeError error;
    const std::int64_t columns = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
    for_each_float_part(source, tensor.name, [&](std::int64_t first, std::span<const float> x) {
      error.add(x, back->read_f32_rows(tensor.name, first / columns, std::ssize(x) / columns));
    });
    if (error.none()) {
      ++out.float_tensors;
    } else if (exact_floats) {
      out.faults.push_back(cat(tensor.name, ": its floats differ"));
    } else {
      out.changed_floats.emplace_back(tensor.name, error.value());
    }
  };
  for (const auto& tensor : model::outer_tensors(source.config())) compare_floats(tensor);
  for (std::int64_t i = 0; i < source.config().num_hidden_layers; ++i) {
    for (const auto& tensor : model::block_tensors(source.config(), i)) compare_floats(tensor);
  }
  return out;
}

}  // namespace crumb::formats
