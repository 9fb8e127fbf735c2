// Seeded random numbers whose sequence is part of the contract: the same on every machine and standard
// library.
#pragma once
#include <cstdint>
#include <random>

namespace crumb {

/// Python's `random.Random(seed)` for the calls that window selection needs: MT19937 seeded by init_by_array,
/// randint by rejection of getrandbits. Sequences equal CPython's (checked against recorded values).
class PythonRandom {
 public:
  explicit PythonRandom(std::uint64_t seed);
  /// Uniform integer in [low, high], both included, as random.randint.
  std::int64_t randint(std::int64_t low, std::int64_t high);
  /// The next 32 bits.
  std::uint32_t next32() { return static_cast<std::uint32_t>(engine_()); }

 private:
  std::uint64_t below(std::uint64_t n);
  std::mt19937 engine_;
};

/// SplitMix64: small, seedable, good enough for sampling tokens and making test data.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

}  // namespace crumb
