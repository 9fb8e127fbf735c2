#include "kernels/kv_store.h"

#include <algorithm>

#include "kernels/forced_isa.h"
#include "quant/token_grid.h"
#include "support/expect_error.h"

namespace crumb::kernels::test {
namespace {

class KvStore : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(KvStore, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

constexpr KvFormat kFormats[] = {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4};

struct Memory {
  Memory(KvFormat format, std::int64_t heads, std::int64_t head_dim, std::int64_t capacity)
      : bytes(static_cast<std::size_t>(kv_block_bytes(format, heads, head_dim, capacity)) + 128,
              std::byte{0xa5}) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    first = 64 - address % 64;
    block = {format, heads, head_dim, capacity, bytes.data() + first};
  }
  bool frame_intact() const {
    const std::size_t end = bytes.size() - 128 + first;
    const auto untouched = [](std::byte b) { return b == std::byte{0xa5}; };
    return std::all_of(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(first), untouched) &&
           std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(end), bytes.end(), untouched);
  }
  std::vector<std::byte> bytes;
  std::size_t first = 0;
  KvBlock block;
};

/// Half a step of the format for one row; what the two roundings of f32 add is below 2^-20 of it.
double bound_of(KvFormat format, const float* row, std::int64_t d, double x) {
  double low = 0, high = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    low = std::min<double>(low, row[i]);
    high = std::max<double>(high, row[i]);
  }
  switch (format) {
    case KvFormat::kF32:
      return 0;
    case KvFormat::kF16:
      return std::abs(x) * 0x1p-11 + 0x1p-25;
    case KvFormat::kInt8:
      return std::max(high, -low) / 127 * (0.5 + 127 * 4 * kUnit);
    case KvFormat::kInt4:
      return (high - low) / 15 * (0.5 + 15 * 4 * kUnit);
  }
  return 0;
}

TEST_P(KvStore, RoundTripStaysWithinHalfAStep) {
  active(kv_store_variants());
  for (const KvFormat format : kFormats) {
    for (const std::int64_t d : {2, 6, 16, 30, 64, 80, 128}) {
      SCOPED_TRACE(::testing::Message() << to_string(format) << " D " << d);
      const std::int64_t heads = 2, count = 21, first = 13, stride = heads * d + 3;
      Floats k = random_floats(count * stride, 1), v = random_floats(count * stride, 2);
      for (std::int64_t i = 0; i < d; ++i) {
        k[5 * stride + i] = 0;                                     // a row of zeros
        v[6 * stride + i] = 2.0f + 0.01f * static_cast<float>(i);  // of one sign
        k[7 * stride + i] = -1e4f * static_cast<float>(i == 0);    // one outlier
      }
      Memory memory(format, heads, d, 64);
      kv_store(memory.block, first, count, k.data(), v.data(), stride);
      ASSERT_TRUE(memory.frame_intact());
      std::vector<float> key(static_cast<std::size_t>(d)), value(key);
      for (std::int64_t t = 0; t < count; ++t) {
        for (std::int64_t head = 0; head < heads; ++head) {
          kv_load(memory.block, first + t, head, key.data(), value.data());
          for (const auto& [from, got] : {std::pair{&k, &key}, std::pair{&v, &value}}) {
            const float* row = from->data() + t * stride + head * d;
            for (std::int64_t i = 0; i < d; ++i) {
              ASSERT_LE(std::abs((*got)[static_cast<std::size_t>(i)] - row[i]),
                        bound_of(format, row, d, row[i]))
                  << "token " << t << " head " << head << " channel " << i << ": " << row[i] << " became "
                  << (*got)[static_cast<std::size_t>(i)];
            }
          }
        }
      }
    }
  }
}

TEST_P(KvStore, BytesEqualTheReference) {
  const KvStoreFunctions& run = active(kv_store_variants());
  for (const KvFormat format : kFormats) {
    for (const std::int64_t d : {2, 6, 30, 64, 80, 1024}) {
      SCOPED_TRACE(::testing::Message() << to_string(format) << " D " << d);
      const std::int64_t heads = 2, count = 19, stride = heads * d;
      const Floats k = random_floats(count * stride, 3), v = random_floats(count * stride, 4, 50.0);
      Memory one(format, heads, d, 64), other(format, heads, d, 64);
      run.store(one.block, 30, count, k.data(), v.data(), stride);
      kv_store_ref()->store(other.block, 30, count, k.data(), v.data(), stride);
      const std::int64_t bytes = kv_block_bytes(format, heads, d, 64);
      ASSERT_EQ(std::memcmp(one.block.data, other.block.data, static_cast<std::size_t>(bytes)), 0);
      // Negative control: one number moved by more than a step changes the bytes.
      Floats changed = k;
      changed[stride + 1] += 3.0f;
      run.store(one.block, 30, count, changed.data(), v.data(), stride);
      ASSERT_NE(std::memcmp(one.block.data, other.block.data, static_cast<std::size_t>(bytes)), 0);
    }
  }
}

// With the floor of quant/token_grid.h, what is read is bit for bit what that makes of the row.
TEST_P(KvStore, IntegersAreTheGridOfTheScalarTruth) {
  active(kv_store_variants());
  for (const auto& [format, bits, symmetric] :
       {std::tuple{KvFormat::kInt8, 8, true}, std::tuple{KvFormat::kInt4, 4, false}}) {
    for (const std::int64_t d : {2, 6, 30, 64, 128}) {
      const std::int64_t count = 40;
      Floats k = random_floats(count * d, 8), v = random_floats(count * d, 9);
      for (std::int64_t i = 0; i < d; ++i) {
        k[1 * d + i] = 0;
        k[2 * d + i] *= 1e-5f;  // below the floor
        k[3 * d + i] = 1.0f + static_cast<float>(i);
        v[1 * d + i] = -1.0f - 0.1f * static_cast<float>(i);
        v[2 * d + i] = static_cast<float>(i % 16) - 7.5f;  // ties
      }
      Memory memory(format, 1, d, 64);
      memory.block.least_scale = quant::kMinTokenScale;
      kv_store(memory.block, 3, count, k.data(), v.data(), d);
      std::vector<float> key(static_cast<std::size_t>(d)), value(key);
      for (std::int64_t t = 0; t < count; ++t) {
        kv_load(memory.block, 3 + t, 0, key.data(), value.data());
        for (const auto& [from, got] : {std::pair{&k, &key}, std::pair{&v, &value}}) {
          const std::span<const float> row =
              from->span().subspan(static_cast<std::size_t>(t * d), static_cast<std::size_t>(d));
          const quant::TokenGrid grid = quant::token_grid(row, bits, symmetric);
          for (std::size_t i = 0; i < row.size(); ++i)
            ASSERT_EQ((*got)[i], quant::fake_quant_one(row[i], grid))
                << to_string(format) << " D " << d << " token " << t << " channel " << i;
        }
      }
      // Without the floor tiny numbers keep their precision.
      memory.block.least_scale = 0;
      kv_store(memory.block, 3, count, k.data(), v.data(), d);
      kv_load(memory.block, 5, 0, key.data(), value.data());
      EXPECT_NEAR(key[0], k[2 * d], bound_of(format, k.data() + 2 * d, d, 0));
    }
  }
}

TEST_P(KvStore, TokensDoNotTouchTheirNeighbours) {
  for (const KvFormat format : kFormats) {
    const std::int64_t d = 30;
    const Floats k = random_floats(40 * d, 5), v = random_floats(40 * d, 6), other = random_floats(d, 7);
    Memory memory(format, 1, d, 64);
    kv_store(memory.block, 0, 40, k.data(), v.data(), d);
    std::vector<float> before(60), after(60);
    for (const std::int64_t token : {16, 18}) {
      kv_load(memory.block, token, 0, before.data(), before.data() + d);
      kv_store(memory.block, 17, 1, other.data(), other.data(), d);
      kv_load(memory.block, token, 0, after.data(), after.data() + d);
      EXPECT_EQ(before, after) << to_string(format);
    }
  }
}

TEST(KvFormatNames, ParseTheirOwnSpellingAndNameTheKnownOnes) {
  for (const KvFormat format : kFormats) EXPECT_EQ(parse_kv_format(to_string(format)), format);
  crumb::test::expect_error(ErrorKind::kInvalidArgument, {"'fp8'", "int8 or int4"},
                            [] { parse_kv_format("fp8"); });
}

}  // namespace
}  // namespace crumb::kernels::test
