#include "kernels/token_quant.h"

#include "kernels/lowbit_weights.h"

namespace crumb::kernels::test {
namespace {

/// Rows of every kind that rounding treats in a way of its own.
std::vector<Floats> rows_of(std::int64_t count) {
  std::vector<Floats> rows;
  for (const double deviation : {1.0, 1e-7, 1e5}) rows.push_back(random_floats(count, 3, deviation));
  const auto add = [&](auto value) {
    Floats row(count);
    for (std::int64_t i = 0; i < count; ++i) row[i] = value(i);
    rows.push_back(std::move(row));
  };
  add([](std::int64_t) { return 0.0f; });
  add([](std::int64_t) { return -0.0f; });
  add([](std::int64_t) { return 0.3f; });
  add([](std::int64_t i) { return 2.0f + 0.01f * static_cast<float>(i); });
  add([](std::int64_t i) { return -2.0f - 0.01f * static_cast<float>(i); });
  add([](std::int64_t i) { return i == 0 ? 127.0f : static_cast<float>(i % 250) - 125.5f; });  // ties
  add([](std::int64_t i) { return i == 0 ? -7.5f : i == 1 ? 7.5f : static_cast<float>(i % 15) - 7; });
  add([](std::int64_t i) { return i % 2 == 0 ? 3e38f : -3e38f; });
  add([count](std::int64_t i) { return i == count - 1 ? 1e30f : 1e-30f; });
  add([count](std::int64_t i) { return i == count - 1 ? std::nanf("") : 1.0f; });
  add([](std::int64_t i) { return i == 0 ? -std::numeric_limits<float>::infinity() : 1.0f; });
  return rows;
}

class TokenQuant : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(TokenQuant, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

TEST_P(TokenQuant, HasTheBitsOfTheScalarTruth) {
  const TokenQuantFunctions& functions = active(token_quant_variants());
  for (const std::int64_t count : {1, 2, 7, 8, 9, 15, 16, 17, 64, 100, 576}) {
    for (const Floats& x : rows_of(count)) {
      for (const bool symmetric : {true, false}) {
        for (int bits = 2; bits <= 8; ++bits) {
          SCOPED_TRACE(::testing::Message() << count << " numbers, first " << x[0] << ", " << bits << " bits "
                                            << (symmetric ? "symmetric" : "asymmetric"));
          const quant::TokenGrid wanted = quant::token_grid(x.span(), bits, symmetric),
                                 grid = token_grid(functions, x.data(), count, bits, symmetric);
          ASSERT_EQ(std::memcmp(&grid.scale, &wanted.scale, 4), 0) << grid.scale << " " << wanted.scale;
          if (std::isfinite(wanted.scale)) {
            ASSERT_EQ(grid.zero_point, wanted.zero_point);
          }
          ASSERT_EQ(grid.top, wanted.top);
          Floats values(count), truth(count);
          functions.values(x.data(), count, grid, values.data());
          for (std::int64_t i = 0; i < count; ++i) truth[i] = quant::fake_quant_one(x[i], grid);
          ASSERT_TRUE(same_bits(values.span(), truth.span()));
          ASSERT_TRUE(values.frame_intact());
          if (!quant::fits_int8(bits, symmetric)) continue;
          std::vector<std::int8_t> codes(static_cast<std::size_t>(count) + 64, 77);
          const std::int32_t sum = functions.codes(x.data(), count, grid, codes.data());
          std::int32_t wanted_sum = 0;
          for (std::int64_t i = 0; i < count; ++i) {
            const std::int32_t code = quant::centered_code(x[i], grid);
            wanted_sum += code;
            ASSERT_EQ(codes[static_cast<std::size_t>(i)], code) << "at " << i;
          }
          ASSERT_EQ(sum, wanted_sum);
          for (std::size_t i = static_cast<std::size_t>(count); i < codes.size(); ++i)
            ASSERT_EQ(codes[i], 77) << "written beyond the end";
        }
      }
    }
  }
}

TEST_P(TokenQuant, RoundsRowsInPlaceEachWithItsOwnGrid) {
  const TokenQuantFunctions& functions = active(token_quant_variants());
  Floats x = random_floats(5 * 33, 4);
  for (std::int64_t i = 0; i < 30; ++i) x[2 * 33 + i] *= 1000;
  const Floats before = x;
  fake_quant_rows(functions, x.data(), 5, 30, 33, 4, false);
  for (std::int64_t row = 0; row < 5; ++row) {
    const quant::TokenGrid grid =
        quant::token_grid(before.span().subspan(static_cast<std::size_t>(row * 33), 30), 4, false);
    for (std::int64_t i = 0; i < 33; ++i) {
      const float old = before[row * 33 + i];
      ASSERT_EQ(x[row * 33 + i], i < 30 ? quant::fake_quant_one(old, grid) : old) << row << " " << i;
    }
  }
}

TEST_P(TokenQuant, TakesAFixedGridForEveryFiniteRow) {
  const TokenQuantFunctions& functions = active(token_quant_variants());
  const quant::TokenGrid fixed{0.03f, 9, 31};
  Floats x = random_floats(3 * 70, 6);
  x[70 + 4] = INFINITY;
  const Floats before = x;
  fake_quant_rows(functions, x.data(), 3, 70, 70, 5, false, &fixed);
  for (std::int64_t i = 0; i < 3 * 70; ++i) {
    if (i / 70 == 1)
      ASSERT_TRUE(std::isnan(x[i])) << "a row with an infinity must be seen";
    else
      ASSERT_EQ(x[i], quant::fake_quant_one(before[i], fixed)) << i;
  }
  const LowbitShape shape = lowbit_shape(1, 70, {4, -1, quant::Grid::kAsym}, "w");
  for (const LowbitMode mode : {LowbitMode::kInt8, LowbitMode::kExact}) {
    AlignedBytes memory(lowbit_activation_bytes(3, 70, 70, mode));
    const LowbitActivations view = lowbit_activations(3, 70, shape.group_size, mode, memory.span());
    prepare_lowbit_tokens(functions, before.data(), 70, 5, false, view, 0, 3, &fixed);
    ASSERT_TRUE(memory.frame_intact());
    for (const std::int64_t row : {0, 2}) {
      for (std::int64_t j = 0; j < 70; ++j) {
        const float v = before[row * 70 + j];
        if (mode == LowbitMode::kInt8)
          ASSERT_EQ(view.codes[row * view.stride + j], quant::centered_code(v, fixed));
        else
          ASSERT_EQ(view.values[row * view.stride + j], quant::fake_quant_one(v, fixed));
      }
    }
  }
}

TEST(ChannelQuant, RoundsEachChannelOnItsOwnGrid) {
  const quant::StaticGrid grids{{0.5f, 0.01f, 2}, {3, 0, 7}};
  std::vector<float> x = {0.6f, -1, 9, 100, 0.104f, std::nanf("")};
  std::vector<float> padded = {x[0], x[1], x[2], 77, x[3], x[4], x[5], 77};
  fake_quant_channels(padded.data(), 2, 3, 4, 3, grids);
  // By hand: clamp(rne(x / s) + z, 0, 7), minus z, times s.
  EXPECT_EQ(padded[0], 0.5f);  // 1.2 -> 1
  EXPECT_EQ(padded[1], 0.0f);  // below code 0
  EXPECT_EQ(padded[2], 0.0f);  // 4.5 -> 4, 11 is above 7
  EXPECT_EQ(padded[4], 2.0f);  // 200 is cut at 7
  EXPECT_EQ(padded[5], 0.07f);
  EXPECT_TRUE(std::isnan(padded[6]));
  EXPECT_EQ(padded[3], 77.0f);
  EXPECT_EQ(padded[7], 77.0f);
}

constexpr std::int64_t kGap = 5;

PreparedActivations prepared_tokens(const TokenQuantFunctions& functions, const LowbitShape& shape,
                                    const float* x, std::int64_t m, LowbitMode mode, int bits,
                                    bool symmetric) {
  AlignedBytes memory(lowbit_activation_bytes(m, shape.k, shape.group_size, mode));
  const LowbitActivations view = lowbit_activations(m, shape.k, shape.group_size, mode, memory.span());
  prepare_lowbit_tokens(functions, x, shape.k + kGap, bits, symmetric, view, 0, m);
  return {std::move(memory), view};
}

TEST_P(TokenQuant, PreparesLowbitActivationsWithOneGridARow) {
  const TokenQuantFunctions& functions = active(token_quant_variants());
  for (const auto& [k, group] :
       {std::pair{64, 64}, {96, 32}, {576, -1}, {100, 20}, {7, 7}, {192, 96}, {200, 100}}) {
    const LowbitShape shape = lowbit_shape(1, k, {4, group, quant::Grid::kAsym}, "w");
    const std::int64_t m = 4, padded = (shape.group_size + 31) / 32 * 32, chunks = (padded + 63) / 64;
    Floats x = random_floats(m * (k + kGap), 5);
    for (std::int64_t i = 0; i < x.size(); ++i)
      if (i % (k + kGap) >= k) x[i] = std::nanf("");
    for (std::int64_t j = 0; j < k; ++j) x[1 * (k + kGap) + j] = 0;
    x[2 * (k + kGap) + k - 1] = std::nanf("");
    for (const auto& [bits, symmetric] : {std::pair{8, true}, {6, false}, {4, false}, {3, true}}) {
      SCOPED_TRACE(::testing::Message() << "K " << k << " group " << group << " bits " << bits);
      const PreparedActivations a =
          prepared_tokens(functions, shape, x.data(), m, LowbitMode::kInt8, bits, symmetric);
      const PreparedActivations exact =
          prepared_tokens(functions, shape, x.data(), m, LowbitMode::kExact, bits, symmetric);
      ASSERT_TRUE(a.memory.frame_intact() && exact.memory.frame_intact());
      for (std::int64_t row = 0; row < m; ++row) {
        const quant::TokenGrid grid = quant::token_grid(
            std::span(x.data() + row * (k + kGap), static_cast<std::size_t>(k)), bits, symmetric);
        for (std::int64_t g = 0; g < k / shape.group_size; ++g) {
          std::vector<std::int32_t> sums(static_cast<std::size_t>(chunks));
          for (std::int64_t j = 0; j < padded; ++j) {
            const float v = j < shape.group_size ? x[row * (k + kGap) + g * shape.group_size + j] : 0.0f;
            const std::int32_t code = j < shape.group_size ? quant::centered_code(v, grid) : 0;
            ASSERT_EQ(a.view.codes[row * a.view.stride + g * padded + j], code)
                << row << " " << g << " " << j;
            const float wanted = j < shape.group_size ? quant::fake_quant_one(v, grid) : 0.0f;
            ASSERT_EQ(std::memcmp(&exact.view.values[row * exact.view.stride + g * padded + j], &wanted, 4),
                      0);
            sums[static_cast<std::size_t>(j / 64)] += code;
          }
          for (std::int64_t c = 0; c < chunks; ++c) {
            const std::int64_t at = row * a.view.chunks + g * chunks + c;
            ASSERT_EQ(std::memcmp(&a.view.scales[at], &grid.scale, 4), 0);
            ASSERT_EQ(a.view.sums[at], sums[static_cast<std::size_t>(c)]);
          }
        }
      }
    }
  }
}

class LowbitTokens : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(LowbitTokens, Isa::kRef, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAmx);

// The product of the rounded numbers in f64: no rounding of activations is left in the bound.
TEST_P(LowbitTokens, ProductsEqualThoseOfTheFakeQuantizedNumbers) {
  const LowbitFunctions& functions = active(lowbit_variants());
  for (const LowbitCase& c : lowbit_cases()) {
    const PackedLinear w = pack_whole(random_linear(c, 6));
    const std::vector<float> w_hat = quant::dequantize(w.linear);
    for (const auto& [bits, symmetric] : {std::pair{8, true}, {6, false}, {4, false}}) {
      for (const std::int64_t m : {1, 3, 19}) {
        if (m > 3 && c.n * c.k > 20000) continue;
        SCOPED_TRACE(::testing::Message() << ::testing::PrintToString(c) << " m " << m << " a" << bits);
        Floats x = random_floats(m * (c.k + kGap), 8);
        x[0] += 3;
        const PreparedActivations a =
            prepared_tokens(*token_quant_ref(), w.shape, x.data(), m, LowbitMode::kInt8, bits, symmetric);
        Floats y(m * c.n, std::nanf("")), ref(m * c.n, std::nanf(""));
        lowbit_multiply(functions, w.view(), a.view, 0, w.shape.tiles(), y.data(), c.n);
        lowbit_multiply(*lowbit_ref(), w.view(), a.view, 0, w.shape.tiles(), ref.data(), c.n);
        ASSERT_TRUE(same_bits(y.span(), ref.span()));
        std::vector<double> wanted, bound;
        for (std::int64_t i = 0; i < m; ++i) {
          const std::span<const float> row(x.data() + i * (c.k + kGap), static_cast<std::size_t>(c.k));
          const quant::TokenGrid grid = quant::token_grid(row, bits, symmetric);
          for (std::int64_t n = 0; n < c.n; ++n) {
            double sum = 0, magnitude = 0;
            for (std::int64_t j = 0; j < c.k; ++j) {
              const double term = static_cast<double>(w_hat[static_cast<std::size_t>(n * c.k + j)]) *
                                  quant::centered_code(row[static_cast<std::size_t>(j)], grid) * grid.scale;
              sum += term;
              magnitude += std::abs(term);
            }
            wanted.push_back(sum);
            bound.push_back((static_cast<double>(a.view.chunks) + 2) * kUnit * magnitude);
          }
        }
        ASSERT_EQ(count_outside(y.span(), wanted, bound), 0);
        // Negative control: one step of the activation in front of the largest weight of the first row.
        std::int64_t at = 0;
        for (std::int64_t j = 1; j < c.k; ++j)
          if (std::abs(w_hat[static_cast<std::size_t>(j)]) > std::abs(w_hat[static_cast<std::size_t>(at)]))
            at = j;
        if (w_hat[static_cast<std::size_t>(at)] == 0) continue;
        const double step = std::abs(static_cast<double>(w_hat[static_cast<std::size_t>(at)])) *
                            static_cast<double>(a.view.scales[0]);
        EXPECT_GT(step, bound[0]) << "the bound would not see a code that is off by one";
      }
    }
  }
}

// Centered codes may be -128, one beyond what lowbit's own rounding makes.
TEST_P(LowbitTokens, TheLargestSumsDoNotOverflow) {
  const LowbitFunctions& functions = active(lowbit_variants());
  for (const int bits : {2, 3, 4, 6, 8}) {
    for (const std::int64_t group : {32, 64, 256}) {
      quant::QuantizedLinear linear = random_linear({16, 256, group, bits, quant::Grid::kAsym}, 17);
      const auto top = static_cast<std::uint8_t>((1 << bits) - 1);
      for (std::int64_t n = 0; n < 16; ++n) {
        for (std::int64_t j = 0; j < 256; ++j)
          linear.codes[static_cast<std::size_t>(n * 256 + j)] = n % 2 == 0 ? top : 0;
        for (std::int64_t g = 0; g < 256 / group; ++g)
          linear.zero_points[static_cast<std::size_t>(n * (256 / group) + g)] = n % 4 < 2 ? 0 : top;
      }
      const PackedLinear w = pack_whole(std::move(linear));
      for (const std::int64_t m : {3, 48}) {
        const Floats x(m * (256 + kGap), 1.0f);
        const PreparedActivations a =
            prepared_tokens(*token_quant_ref(), w.shape, x.data(), m, LowbitMode::kInt8, 8, true);
        const std::int64_t padded = (w.shape.group_size + 31) / 32 * 32, per_group = (padded + 63) / 64;
        for (std::int64_t i = 0; i < m; ++i) {
          std::fill_n(a.view.sums + i * a.view.chunks, a.view.chunks, 0);
          for (std::int64_t j = 0; j < 256; ++j) {
            const auto code = static_cast<std::int8_t>(i % 3 == 0 || (i % 3 == 1 && j % 2 == 0) ? -128 : 127);
            a.view.codes[i * a.view.stride + j] = code;
            a.view.sums[i * a.view.chunks + j / group * per_group + j % group / 64] += code;
          }
        }
        Floats y(m * 16), ref(m * 16);
        lowbit_multiply(functions, w.view(), a.view, 0, 1, y.data(), 16);
        lowbit_multiply(*lowbit_ref(), w.view(), a.view, 0, 1, ref.data(), 16);
        ASSERT_TRUE(same_bits(y.span(), ref.span())) << bits << " bits, group " << group << ", m " << m;
      }
    }
  }
}

}  // namespace
}  // namespace crumb::kernels::test
