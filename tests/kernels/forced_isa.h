// Tests that run once per instruction set, forced, and the buffers that catch reads and writes outside of
// what was given.
#pragma once
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/isa.h"
#include "kernels/registry.h"

namespace crumb::kernels::test {

#ifdef CRUMB_EMULATED
constexpr const char* kElsewhere = "; the cases named emulated.* test it";
#else
constexpr const char* kElsewhere = "";
#endif

/// Skips, by name, where the machine lacks the set.
class ForcedIsa : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam()))
      GTEST_SKIP() << "this machine lacks " << to_string(GetParam()) << "; it has " << machine_isas()
                   << kElsewhere;
    set_isa_limit(GetParam());
  }
  void TearDown() override {
    set_isa_limit(Isa::kAmx);
    omp_set_num_threads(threads_);
  }
  /// The variant under test; the test fails when another one would run.
  template <class Functions>
  const Functions& active(std::span<const Variant<Functions>> variants) {
    const auto& variant = choose(variants);
    EXPECT_EQ(to_string(variant.isa), to_string(GetParam()));
    return *variant.run;
  }

 private:
  int threads_ = omp_get_max_threads();
};

/// Those of `all` that this program is for: the emulated ones in tests/emulated, all elsewhere.
inline std::vector<Isa> tested_sets(std::initializer_list<Isa> all) {
  std::vector<Isa> sets;
  for (const Isa isa : all) {
    if (emulated(isa) == emulated(Isa::kAvx512)) sets.push_back(isa);
  }
  return sets;
}

inline std::string isa_name(const ::testing::TestParamInfo<Isa>& info) {
  return std::string(to_string(info.param));
}

#define CRUMB_FOR_EACH_ISA(suite, ...)                                                              \
  INSTANTIATE_TEST_SUITE_P(Isa, suite,                                                              \
                           ::testing::ValuesIn(::crumb::kernels::test::tested_sets({__VA_ARGS__})), \
                           ::crumb::kernels::test::isa_name)

/// `count` floats at an address that is 4 modulo 64, with NaNs before and behind.
class Floats {
 public:
  explicit Floats(std::int64_t count, float value = 0)
      : count_(count), all_(static_cast<std::size_t>(count) + 2 * kPad + 16, kNan) {
    const auto address = reinterpret_cast<std::uintptr_t>(all_.data() + kPad);
    first_ = kPad + (64 - address % 64) / 4 % 16 + 1;
    for (float& x : span()) x = value;
  }
  float* data() { return all_.data() + first_; }
  const float* data() const { return all_.data() + first_; }
  std::span<float> span() { return {data(), static_cast<std::size_t>(count_)}; }
  std::span<const float> span() const { return {data(), static_cast<std::size_t>(count_)}; }
  float& operator[](std::int64_t i) { return data()[i]; }
  float operator[](std::int64_t i) const { return data()[i]; }
  std::int64_t size() const { return count_; }
  /// Whether the NaNs around are still there.
  bool frame_intact() const {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      if ((i < first_ || i >= first_ + static_cast<std::size_t>(count_)) && !std::isnan(all_[i]))
        return false;
    }
    return true;
  }

 private:
  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  static constexpr std::size_t kPad = 40;
  std::int64_t count_;
  std::vector<float> all_;
  std::size_t first_ = 0;
};

/// Roughly normal numbers of the given deviation.
inline Floats random_floats(std::int64_t count, std::uint64_t seed, double deviation = 1.0) {
  SplitMix64 rng(seed);
  Floats x(count);
  for (float& value : x.span()) {
    value = static_cast<float>((rng.uniform() + rng.uniform() + rng.uniform() + rng.uniform() - 2.0) *
                               1.7320508 * deviation);
  }
  return x;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// How many numbers lie further than their bound from what is wanted (a NaN does); reports the first.
inline int count_outside(std::span<const float> actual, std::span<const double> wanted,
                         std::span<const double> bound, bool report = true) {
  int outside = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (std::abs(actual[i] - wanted[i]) <= bound[i]) continue;
    if (outside++ == 0 && report) {
      ADD_FAILURE() << "at " << i << ": " << actual[i] << ", wanted " << wanted[i] << " within " << bound[i];
    }
  }
  return outside;
}

constexpr double kUnit = 0x1p-24;  // half a unit in the last place of a float in [1, 2)

}  // namespace crumb::kernels::test
