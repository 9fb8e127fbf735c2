#include "kernels/lowbit.h"

#include "kernels/lowbit_amx_model.h"
#include "kernels/lowbit_weights.h"

namespace crumb::kernels::test {
namespace {

constexpr LowbitMode kModes[] = {LowbitMode::kInt8, LowbitMode::kExact};
constexpr std::int64_t kGap = 5;  // NaNs between the rows of x and y

/// Activations [M, K] of mixed size: an outlier here and there, NaN between the rows.
Floats activations(std::int64_t m, std::int64_t k, std::uint64_t seed) {
  Floats x = random_floats(m * (k + kGap), seed);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    if (i % 97 == 13) x[i] *= 40;
    if (i % (k + kGap) >= k) x[i] = std::nanf("");
  }
  return x;
}

/// y [M, N + kGap] of the whole weight in two ranges; NaN where nothing may be written.
Floats product(const LowbitFunctions& functions, const PackedLinear& w, const Floats& x, std::int64_t m,
               LowbitMode mode) {
  const PreparedActivations a = prepare_whole(functions, w.shape, x.data(), m, w.shape.k + kGap, mode);
  EXPECT_TRUE(a.memory.frame_intact());
  const std::int64_t ldy = w.shape.n + kGap, middle = w.shape.tiles() * 2 / 3;
  Floats y(m * ldy - kGap, std::nanf(""));
  lowbit_multiply(functions, w.view(), a.view, 0, middle, y.data(), ldy);
  lowbit_multiply(functions, w.view(), a.view, middle, w.shape.tiles(), y.data(), ldy);
  EXPECT_TRUE(y.frame_intact());
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; i + 1 < m && j < kGap; ++j) EXPECT_TRUE(std::isnan(y[i * ldy + w.shape.n + j]));
  }
  return y;
}

std::vector<float> dense(const Floats& y, std::int64_t m, std::int64_t n) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < m; ++i)
    out.insert(out.end(), y.data() + i * (n + kGap), y.data() + i * (n + kGap) + n);
  return out;
}

struct Wanted {
  std::vector<double> value, bound;
};

/// f64 product of the dequantized weight with x as given; bounds of the contract. `x` [M, K + kGap] plain.
Wanted truth_exact(const PackedLinear& w, const Floats& x, std::int64_t m) {
  const std::vector<float> w_hat = quant::dequantize(w.linear);
  const std::int64_t k = w.shape.k, group = w.shape.group_size;
  Wanted out;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t n = 0; n < w.shape.n; ++n) {
      double sum = 0, magnitude = 0;
      for (std::int64_t j = 0; j < k; ++j) {
        const double term =
            static_cast<double>(w_hat[static_cast<std::size_t>(n * k + j)]) * x[i * (k + kGap) + j];
        sum += term;
        magnitude += std::abs(term);
      }
      out.value.push_back(sum);
      const double roundings = std::ceil(static_cast<double>(group) / 4) + static_cast<double>(k / group) + 4;
      out.bound.push_back(roundings * kUnit * magnitude);
    }
  }
  return out;
}

/// The same for the rounded activations of `a`, with the magnitude of the chunks' terms.
Wanted truth_int8(const PackedLinear& w, const LowbitActivations& a) {
  const LowbitShape& s = w.shape;
  const std::int64_t padded = (s.group_size + 31) / 32 * 32, per_group = (padded + 63) / 64;
  Wanted out;
  for (std::int64_t i = 0; i < a.m; ++i) {
    for (std::int64_t n = 0; n < s.n; ++n) {
      double sum = 0, magnitude = 0;
      for (std::int64_t g = 0; g < s.k / s.group_size; ++g) {
        const auto index = static_cast<std::size_t>(n * (s.k / s.group_size) + g);
        for (std::int64_t c = 0; c < per_group; ++c) {
          std::int64_t chunk = 0;
          for (std::int64_t j = c * 64; j < s.group_size && j < (c + 1) * 64; ++j) {
            chunk += (w.linear.codes[static_cast<std::size_t>(n * s.k + g * s.group_size + j)] -
                      w.linear.zero_points[index]) *
                     a.codes[i * a.stride + g * padded + j];
          }
          const double term = static_cast<double>(chunk) * w.linear.scales[index] *
                              static_cast<double>(a.scales[i * a.chunks + g * per_group + c]);
          sum += term;
          magnitude += std::abs(term);
        }
      }
      out.value.push_back(sum);
      out.bound.push_back((static_cast<double>(a.chunks) + 2) * kUnit * magnitude);
    }
  }
  return out;
}

Wanted truth(const PackedLinear& w, const Floats& x, std::int64_t m, LowbitMode mode) {
  if (mode == LowbitMode::kExact) return truth_exact(w, x, m);
  const PreparedActivations a = prepare_whole(*lowbit_ref(), w.shape, x.data(), m, w.shape.k + kGap, mode);
  return truth_int8(w, a.view);
}

void check_bits_of_the_reference(const LowbitFunctions& functions) {
  for (const LowbitCase& c : lowbit_cases()) {
    const PackedLinear w = pack_whole(random_linear(c, 6));
    for (const LowbitMode mode : kModes) {
      for (const std::int64_t m : {1, 2, 3, 7, 8, 9, 16, 37, 49, 66}) {
        if (m > 9 && c.n * c.k > 20000) continue;
        SCOPED_TRACE(::testing::Message()
                     << ::testing::PrintToString(c) << " m " << m << " " << to_string(mode));
        const Floats x = activations(m, c.k, 7);
        const Floats wanted = product(*lowbit_ref(), w, x, m, mode),
                     actual = product(functions, w, x, m, mode);
        ASSERT_TRUE(same_bits(dense(actual, m, c.n), dense(wanted, m, c.n)));
      }
    }
  }
}

void check_many_tokens(const LowbitFunctions& functions) {
  for (const int bits : {2, 3, 4, 6, 8}) {
    const PackedLinear w = pack_whole(random_linear({50, 1088, 64, bits, quant::Grid::kAsym}, 8));
    const std::int64_t m = 130;
    const Floats x = activations(m, 1088, 9);
    for (const LowbitMode mode : kModes) {
      const Floats wanted = product(*lowbit_ref(), w, x, m, mode), actual = product(functions, w, x, m, mode);
      ASSERT_TRUE(same_bits(dense(actual, m, 50), dense(wanted, m, 50)))
          << bits << " bits " << to_string(mode);
    }
  }
}

class Lowbit : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Lowbit, Isa::kRef, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAmx);

TEST_P(Lowbit, StaysWithinTheBoundOfTheContract) {
  const LowbitFunctions& functions = active(lowbit_variants());
  for (const LowbitCase& c : lowbit_cases()) {
    const PackedLinear w = pack_whole(random_linear(c, 10));
    for (const LowbitMode mode : kModes) {
      SCOPED_TRACE(::testing::Message() << ::testing::PrintToString(c) << " " << to_string(mode));
      const std::int64_t m = 3;
      const Floats x = activations(m, c.k, 11);
      const Wanted wanted = truth(w, x, m, mode);
      ASSERT_EQ(count_outside(dense(product(functions, w, x, m, mode), m, c.n), wanted.value, wanted.bound),
                0);
    }
  }
}

TEST_P(Lowbit, TheBoundCatchesOneChangedCodeZeroPointOrActivation) {
  const LowbitFunctions& functions = active(lowbit_variants());
  for (const LowbitCase& c : lowbit_cases()) {
    for (const LowbitMode mode : kModes) {
      SCOPED_TRACE(::testing::Message() << ::testing::PrintToString(c) << " " << to_string(mode));
      const std::int64_t m = 2;
      Floats x = activations(m, c.k, 12);
      x[(c.k + kGap) + c.k - 1] = 3;  // the last of the second token
      quant::QuantizedLinear linear = random_linear(c, 13);
      linear.codes.back() =
          linear.zero_points.back() == 0 ? 1 : 0;  // a weight of 0 would hide its activation
      const PackedLinear w = pack_whole(std::move(linear));
      const Wanted wanted = truth(w, x, m, mode);
      const auto outside = [&](const PackedLinear& weight, const Floats& input) {
        const Floats y = product(functions, weight, input, m, mode);
        return count_outside(dense(y, m, c.n), wanted.value, wanted.bound, false);
      };
      ASSERT_EQ(outside(w, x), 0);
      quant::QuantizedLinear changed = w.linear;
      changed.codes.back() ^= 1;
      EXPECT_GE(outside(pack_whole(changed), x), 1);
      changed = w.linear;
      changed.zero_points.back() ^= c.grid == quant::Grid::kAsym ? 1 : 0;
      if (c.grid == quant::Grid::kSignedSym) {
        changed.zero_points.back() = static_cast<std::uint8_t>(
            (1 << c.bits) - 1 - changed.zero_points.back());  // the other of the two
      }
      EXPECT_GE(outside(pack_whole(changed), x), 1);
      Floats moved = x;
      moved[(c.k + kGap) + c.k - 1] = -3;
      EXPECT_GE(outside(w, moved), 1);
    }
  }
}

TEST_P(Lowbit, HasTheBitsOfTheReferenceForEveryShapeAndNumberOfTokens) {
  check_bits_of_the_reference(active(lowbit_variants()));
}

TEST_P(Lowbit, HasTheBitsOfTheReferenceForManyTokens) {
  check_many_tokens(active(lowbit_variants()));
}

TEST_P(Lowbit, PreparesTheBitsOfTheReference) {
  const LowbitFunctions& functions = active(lowbit_variants());
  for (const auto& [k, group] : {std::pair{64, 64}, {96, 32}, {576, -1}, {100, 20}, {7, 7}, {192, 96}}) {
    const LowbitShape shape = lowbit_shape(1, k, {4, group, quant::Grid::kAsym}, "w");
    const std::int64_t m = 9;
    Floats x = activations(m, k, 14);
    for (std::int64_t j = 0; j < k; ++j) {
      x[1 * (k + kGap) + j] = 0;
      x[2 * (k + kGap) + j] *= 0x1p-120f;                         // below the least absmax
      x[3 * (k + kGap) + j] = static_cast<float>(j % 255) - 127;  // codes that are the numbers themselves
      x[4 * (k + kGap) + j] = static_cast<float>(j % 7) + 0.5f;   // ties
      x[5 * (k + kGap) + j] *= 0x1p120f;
    }
    x[4 * (k + kGap)] = 127;
    x[6 * (k + kGap) + k - 1] = std::nanf("");
    x[7 * (k + kGap)] = -std::numeric_limits<float>::infinity();
    for (const LowbitMode mode : kModes) {
      const PreparedActivations wanted = prepare_whole(*lowbit_ref(), shape, x.data(), m, k + kGap, mode),
                                actual = prepare_whole(functions, shape, x.data(), m, k + kGap, mode);
      ASSERT_EQ(std::memcmp(actual.memory.data(), wanted.memory.data(), wanted.memory.span().size()), 0)
          << k << " " << group << " " << to_string(mode);
      ASSERT_TRUE(actual.memory.frame_intact());
    }
    const PreparedActivations a = prepare_whole(functions, shape, x.data(), m, k + kGap, LowbitMode::kInt8);
    EXPECT_EQ(a.view.scales[a.view.chunks], 0.0f);
    EXPECT_EQ(a.view.scales[2 * a.view.chunks], 0.0f);
    EXPECT_TRUE(std::isnan(a.view.scales[7 * a.view.chunks - 1]));
    EXPECT_TRUE(std::isnan(a.view.scales[7 * a.view.chunks]));
    EXPECT_EQ(a.view.codes[4 * a.view.stride + 2], 2);  // 2.5 rounds to even, the chunk's scale being 1
  }
}

// Rounding to int8 moves an activation by half a scale at most, which moves a result by the sum of |w_hat|
// times that.
TEST_P(Lowbit, Int8StaysWithinTheRoundingOfTheActivations) {
  const LowbitFunctions& functions = active(lowbit_variants());
  for (const LowbitCase& c : lowbit_cases()) {
    SCOPED_TRACE(::testing::PrintToString(c));
    const PackedLinear w = pack_whole(random_linear(c, 15));
    const std::int64_t m = 2, group = w.shape.group_size, padded = (group + 31) / 32 * 32;
    const Floats x = activations(m, c.k, 16);
    const PreparedActivations a =
        prepare_whole(functions, w.shape, x.data(), m, c.k + kGap, LowbitMode::kInt8);
    Wanted wanted = truth_exact(w, x, m);
    const Wanted rounded = truth_int8(w, a.view);
    const std::vector<float> w_hat = quant::dequantize(w.linear);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t n = 0; n < c.n; ++n) {
        double moved = 0;
        for (std::int64_t j = 0; j < c.k; ++j) {
          const std::int64_t chunk = j / group * ((padded + 63) / 64) + j % group / 64;
          moved += std::abs(w_hat[static_cast<std::size_t>(n * c.k + j)]) *
                   static_cast<double>(a.view.scales[i * a.view.chunks + chunk]) / 2 * (1 + 0x1p-16);
        }
        const auto at = static_cast<std::size_t>(i * c.n + n);
        wanted.bound[at] = moved + rounded.bound[at];
      }
    }
    const Floats y = product(functions, w, x, m, LowbitMode::kInt8);
    ASSERT_EQ(count_outside(dense(y, m, c.n), wanted.value, wanted.bound), 0);
  }
}

// Every integer sum at its largest: codes at the top, zero points at the bottom (or the reverse), activations
// all 127, -127 or in turn.
TEST_P(Lowbit, TheLargestSumsDoNotOverflow) {
  const LowbitFunctions& functions = active(lowbit_variants());
  for (const int bits : {2, 3, 4, 6, 8}) {
    for (const std::int64_t group : {32, 64, 128}) {
      const LowbitCase c{16, 256, group, bits, quant::Grid::kAsym};
      quant::QuantizedLinear linear = random_linear(c, 17);
      const auto top = static_cast<std::uint8_t>((1 << bits) - 1);
      for (std::int64_t n = 0; n < 16; ++n) {
        for (std::int64_t j = 0; j < 256; ++j)
          linear.codes[static_cast<std::size_t>(n * 256 + j)] = n % 2 == 0 ? top : 0;
        for (std::int64_t g = 0; g < 256 / group; ++g)
          linear.zero_points[static_cast<std::size_t>(n * (256 / group) + g)] = n % 4 < 2 ? 0 : top;
      }
      const PackedLinear w = pack_whole(std::move(linear));
      for (const std::int64_t m : {3, 48}) {
        Floats x(m * (256 + kGap));
        for (std::int64_t i = 0; i < x.size(); ++i) {
          const std::int64_t token = i / (256 + kGap);
          x[i] = token % 3 == 0 ? 127.0f : token % 3 == 1 ? -127.0f : i % 2 == 0 ? 127.0f : -127.0f;
        }
        const Wanted wanted = truth(w, x, m, LowbitMode::kInt8);
        const Floats y = product(functions, w, x, m, LowbitMode::kInt8);
        ASSERT_EQ(count_outside(dense(y, m, 16), wanted.value, wanted.bound), 0)
            << bits << " bits, group " << group << ", m " << m;
      }
    }
  }
}

TEST_P(Lowbit, ATokensResultDoesNotDependOnItsNeighboursOrOnTheRange) {
  const LowbitFunctions& functions = active(lowbit_variants());
  for (const int bits : {2, 3, 4, 6, 8}) {
    const PackedLinear w = pack_whole(random_linear({50, 576, 64, bits, quant::Grid::kSignedSym}, 18));
    const Floats x = activations(33, 576, 19);
    for (const LowbitMode mode : kModes) {
      const Floats all = product(functions, w, x, 33, mode);
      for (const std::int64_t token : {0, 13, 32}) {
        Floats one(576 + kGap);
        std::copy_n(x.data() + token * (576 + kGap), 576 + kGap, one.data());
        const PreparedActivations a = prepare_whole(functions, w.shape, one.data(), 1, 576 + kGap, mode);
        Floats y(50);
        for (std::int64_t tile = w.shape.tiles() - 1; tile >= 0; --tile)
          lowbit_multiply(functions, w.view(), a.view, tile, tile + 1, y.data(), 50);
        EXPECT_EQ(std::memcmp(y.data(), all.data() + token * (50 + kGap), 50 * sizeof(float)), 0)
            << bits << " bits, token " << token << " " << to_string(mode);
      }
    }
  }
}

TEST_P(Lowbit, ANanInOneTokenIsSeenThereAndOnlyThere) {
  const LowbitFunctions& functions = active(lowbit_variants());
  const PackedLinear w = pack_whole(random_linear({20, 128, 64, 2, quant::Grid::kAsym}, 20));
  for (const std::int64_t m : {4, 40}) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      for (const LowbitMode mode : kModes) {
        Floats x = activations(m, 128, 21);
        x[2 * (128 + kGap) + 70] = bad;
        const Floats y = product(functions, w, x, m, mode);
        for (std::int64_t i = 0; i < m; ++i) {
          for (std::int64_t n = 0; n < 20; ++n)
            ASSERT_EQ(std::isfinite(y[i * (20 + kGap) + n]), i != 2)
                << i << " " << n << " " << to_string(mode);
        }
      }
    }
  }
}

TEST(LowbitAmxModel, TilesHaveTheBitsOfTheReference) {
  if (!machine_has(Isa::kAvx512Vnni))
    GTEST_SKIP() << "unpacking for the tiles needs avx512_vnni; this machine has " << machine_isas();
  const std::int64_t before = lowbit_amx_model_products();
  check_bits_of_the_reference(*lowbit_amx_model());
  check_many_tokens(*lowbit_amx_model());
  EXPECT_GT(lowbit_amx_model_products(), before);
}

}  // namespace
}  // namespace crumb::kernels::test
