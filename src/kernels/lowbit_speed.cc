#include "kernels/lowbit_speed.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "base/rng.h"
#include "kernels/memory_speed.h"

namespace crumb::kernels {
namespace {

struct Case {
  const LowbitSpeedOptions& options;
  LowbitShape shape;
  TouchedMemory weights;
  std::int64_t count;  // matrices in `weights`
  std::vector<const Variant<LowbitFunctions>*> variants;

  LowbitMatrix matrix(std::int64_t i) const {
    const std::int64_t bytes = lowbit_bytes(shape);
    return lowbit_matrix(
        shape, weights.span().subspan(static_cast<std::size_t>(i * bytes), static_cast<std::size_t>(bytes)),
        kLowbitLayoutVersion, "bench");
  }
};

/// Random codes; speed depends on none of them, but zeros could hide denormals or constant folding in
/// hardware.
quant::QuantizedLinear random_linear(const LowbitShape& shape, quant::Grid grid) {
  SplitMix64 rng(1);
  const std::uint64_t max_code = (1u << shape.bits) - 1;
  quant::QuantizedLinear linear{shape.n, shape.k, {shape.bits, shape.group_size, grid}, {}, {}, {}};
  linear.codes.resize(static_cast<std::size_t>(shape.n * shape.k));
  for (std::uint8_t& code : linear.codes) code = static_cast<std::uint8_t>(rng.next() & max_code);
  linear.scales.assign(static_cast<std::size_t>(shape.n * shape.k / shape.group_size), round_to_f16(0.01f));
  linear.zero_points.assign(linear.scales.size(), static_cast<std::uint8_t>((max_code + 1) / 2));
  return linear;
}

Case make_case(const LowbitSpeedOptions& options, int bits, std::int64_t n, std::int64_t k) {
  const LowbitShape shape = lowbit_shape(n, k, {bits, options.group_size, options.grid}, "bench");
  const std::int64_t bytes = lowbit_bytes(shape),
                     count = std::max<std::int64_t>(1, options.weight_bytes / bytes);
  Case c{options, shape, TouchedMemory(static_cast<std::size_t>(count * bytes)), count, {}};
  std::byte* const memory = c.weights.span().data();
  pack_lowbit(random_linear(shape, options.grid), shape, 0, shape.tiles(), memory, "bench");
  for (std::int64_t i = 1; i < count; ++i)
    std::memcpy(memory + i * bytes, memory, static_cast<std::size_t>(bytes));
  for (const auto& variant : lowbit_variants()) {
    const bool wanted = options.isas.empty()
                            ? variant.isa != Isa::kRef
                            : std::count(options.isas.begin(), options.isas.end(), variant.isa) > 0;
    if (wanted && variant.run != nullptr && usable(variant.isa)) c.variants.push_back(&variant);
  }
  if (c.variants.empty()) {
    fail(ErrorKind::kInvalidArgument, "kernels.lowbit_speed",
         "none of the variants asked for is usable; this machine has ", machine_isas());
  }
  return c;
}

struct Activations {
  std::vector<float> x;
  TouchedMemory memory;
  LowbitActivations view;
  double prepare_seconds;  // by the first variant
};

Activations make_activations(const Case& c, std::int64_t m) {
  SplitMix64 rng(2);
  std::vector<float> x(static_cast<std::size_t>(m * c.shape.k));
  for (float& value : x) value = static_cast<float>(rng.uniform() - 0.5);
  TouchedMemory memory(
      static_cast<std::size_t>(lowbit_activation_bytes(m, c.shape.k, c.shape.group_size, c.options.mode)));
  const LowbitActivations view =
      lowbit_activations(m, c.shape.k, c.shape.group_size, c.options.mode, memory.span());
  double least = 1e30;
  for (int i = 0; i < 5; ++i) {
    least = std::min(least, seconds_of(1, [&](int) {
                       prepare_lowbit(*c.variants.front()->run, x.data(), c.shape.k, view, 0, m);
                     }));
  }
  return {std::move(x), std::move(memory), view, least};
}

/// Multiplies matrix after matrix, each thread its share of the row tiles, until all were read or the time is
/// up. Seconds for one matrix.
double seconds_for_one(const Case& c, const LowbitFunctions& functions, const LowbitActivations& x,
                       std::int64_t first, std::vector<float>& y) {
  const int threads = c.options.threads;
  const std::int64_t tiles = c.shape.tiles();
  // How many fit the time is found from one untimed matrix, the same for every thread.
  const auto multiply = [&](std::int64_t i, int thread) {
    lowbit_multiply(functions, c.matrix((first + i) % c.count), x, tiles * thread / threads,
                    tiles * (thread + 1) / threads, y.data(), c.shape.n);
  };
  const double once = seconds_of(threads, [&](int thread) { multiply(0, thread); });
  const std::int64_t passes =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(c.options.seconds_per_pass / once), 1, c.count);
  const double seconds = seconds_of(threads, [&](int thread) {
    for (std::int64_t i = 0; i < passes; ++i) multiply(1 + i, thread);
  });
  return seconds / static_cast<double>(passes);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

void measure_case(const Case& c, const std::function<void(const LowbitSpeed&)>& report) {
  const auto bytes = static_cast<double>(lowbit_bytes(c.shape));
  std::vector<Activations> activations;
  for (const std::int64_t m : c.options.m) activations.push_back(make_activations(c, m));
  std::vector<float> y(
      static_cast<std::size_t>(*std::max_element(c.options.m.begin(), c.options.m.end()) * c.shape.n));
  const std::size_t cells = activations.size() * c.variants.size();
  std::vector<std::vector<double>> seconds(cells), fractions(cells);
  std::vector<double> reads;
  for (int round = 0; round < c.options.rounds; ++round) {
    for (std::size_t i = 0; i < activations.size(); ++i) {
      // The reading stands beside each M, not only beside each round: the machine is shared.
      const double read = read_bandwidth_gbps(c.weights.span(), c.options.threads);
      reads.push_back(read);
      for (std::size_t v = 0; v < c.variants.size(); ++v) {
        const double one = seconds_for_one(c, *c.variants[v]->run, activations[i].view, round * 7, y);
        seconds[i * c.variants.size() + v].push_back(one);
        fractions[i * c.variants.size() + v].push_back(bytes / one / 1e9 / read);
      }
    }
  }
  for (std::size_t v = 0; v < c.variants.size(); ++v) {
    for (std::size_t i = 0; i < activations.size(); ++i) {
      const std::size_t cell = i * c.variants.size() + v;
      const double one = median(seconds[cell]);
      const std::int64_t m = c.options.m[i];
      report({c.shape.bits, c.shape.n, c.shape.k, m, c.variants[v]->isa, one * 1e6, bytes / one / 1e9,
              median(reads), median(fractions[cell]),
              2.0 * static_cast<double>(m) * static_cast<double>(c.shape.n) * static_cast<double>(c.shape.k) /
                  one / 1e9,
              activations[i].prepare_seconds * 1e6});
    }
  }
}

}  // namespace

void measure_lowbit(const LowbitSpeedOptions& options,
                    const std::function<void(const LowbitSpeed&)>& report) {
  if (options.bits.empty() || options.shapes.empty() || options.m.empty() || options.threads < 1 ||
      options.rounds < 1 || *std::min_element(options.m.begin(), options.m.end()) < 1) {
    fail(ErrorKind::kInvalidArgument, "kernels.lowbit_speed",
         "nothing to measure: expected at least one bit width, shape and m >= 1, threads >= 1 and rounds >= "
         "1");
  }
  for (const int bits : options.bits) {
    for (const auto& [n, k] : options.shapes) measure_case(make_case(options, bits, n, k), report);
  }
}

}  // namespace crumb::kernels
