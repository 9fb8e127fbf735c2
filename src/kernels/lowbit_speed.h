// Speed of the low-bit products beside the read bandwidth measured in the same seconds: what `crumb bench
// kernels` and bench/lowbit_bench print.
#pragma once
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/lowbit.h"

namespace crumb::kernels {

struct LowbitSpeedOptions {
  std::vector<int> bits = {2, 3, 4, 8};
  std::vector<std::pair<std::int64_t, std::int64_t>> shapes = {{4096, 4096}, {11008, 4096}};  // N, K
  std::int64_t group_size = 64;
  quant::Grid grid = quant::Grid::kAsym;
  std::vector<std::int64_t> m = {1, 4, 16, 512};
  std::vector<Isa> isas;  // empty: every usable one but ref
  LowbitMode mode = LowbitMode::kInt8;
  int threads = 1;
  std::int64_t weight_bytes = std::int64_t{512}
                              << 20;  // of distinct weights a case; several last-level caches
  int rounds = 7;                     // of all m and variants and one reading; the median counts
  double seconds_per_pass = 0.25;     // a pass over the weights ends early after that: large M
};

/// One case. Ratios are formed in each round before the median is taken.
struct LowbitSpeed {
  int bits;
  std::int64_t n, k, m;
  Isa isa;
  double microseconds;           // of one product of all N rows on all threads
  double gbps;                   // packed bytes a second
  double read_gbps;              // plain reading of the same memory by as many threads
  double fraction_of_bandwidth;  // gbps / read_gbps
  double gops;                   // 2 M N K operations a second, in 1e9
  double prepare_microseconds;   // of the activations [M, K], one thread; not part of the above
};

/// Measures case by case and hands each bit width's and shape's rows to `report` when they are ready.
/// Activations are prepared beforehand: linears share them. Throws InvalidArgument for options that make no
/// case.
void measure_lowbit(const LowbitSpeedOptions& options, const std::function<void(const LowbitSpeed&)>& report);

}  // namespace crumb::kernels
