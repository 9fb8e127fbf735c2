#include "kernels/cached_attention.h"

#include <algorithm>

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class CachedAttention : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(CachedAttention, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

constexpr KvFormat kFormats[] = {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4};

struct Case {
  std::int64_t first, tokens, heads, kv_heads, d, window;
};

/// A cache of first + tokens stored tokens, all other bytes NaN or as large as they can be, and queries.
struct Problem {
  Problem(KvFormat format, const Case& c, std::uint64_t seed)
      : shape(c),
        q_stride(c.heads * c.d + 5),
        keys(random_floats((c.first + c.tokens) * c.kv_heads * c.d, seed)),
        values(random_floats((c.first + c.tokens) * c.kv_heads * c.d, seed + 1)),
        q(random_floats(c.tokens * q_stride, seed + 2, 2.0)),
        memory(static_cast<std::size_t>(kv_block_bytes(format, c.kv_heads, c.d, capacity())) + 64,
               std::byte{0xff}) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    block = {format, c.kv_heads, c.d, capacity(), memory.data() + (64 - address % 64)};
    store();
  }
  std::int64_t capacity() const { return (shape.first + shape.tokens + 64) / 64 * 64; }
  void store() {
    kv_store_ref()->store(block, 0, shape.first + shape.tokens, keys.data(), values.data(),
                          shape.kv_heads * shape.d);
  }
  CachedAttentionArgs args(Floats& o) const {
    return {block,       q.data(),    o.data(),     q_stride,     shape.heads * shape.d,
            shape.heads, shape.first, shape.tokens, shape.window, scale()};
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape.d)); }

  Case shape;
  std::int64_t q_stride;
  Floats keys, values, q;
  std::vector<std::byte> memory;
  KvBlock block;
};

struct Truth {
  std::vector<double> o, bound;
};

/// The header's formula and its bound, over what the cache holds.
Truth truth(const Problem& p) {
  const Case& c = p.shape;
  const std::int64_t total = c.first + c.tokens, group = c.heads / c.kv_heads;
  std::vector<std::vector<float>> key(static_cast<std::size_t>(total * c.kv_heads)), value(key);
  std::vector<double> key_size(key.size(), 0), value_size(key.size(), 0);
  for (std::int64_t t = 0; t < total; ++t) {
    for (std::int64_t h = 0; h < c.kv_heads; ++h) {
      const auto at = static_cast<std::size_t>(t * c.kv_heads + h);
      key[at].resize(static_cast<std::size_t>(c.d));
      value[at].resize(static_cast<std::size_t>(c.d));
      kv_load(p.block, t, h, key[at].data(), value[at].data());
      double largest_key = 0;
      for (std::int64_t i = 0; i < c.d; ++i) {
        largest_key = std::max<double>(largest_key, std::abs(key[at][static_cast<std::size_t>(i)]));
        value_size[at] = std::max<double>(value_size[at], std::abs(value[at][static_cast<std::size_t>(i)]));
      }
      key_size[at] = largest_key;
      // |c| + z <= 30 and the largest |c - z| of a row is at least 7.5: at most four times the largest
      // number.
      if (p.block.format == KvFormat::kInt4) value_size[at] *= 4, key_size[at] *= 4;
    }
  }
  Truth out;
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    for (std::int64_t head = 0; head < c.heads; ++head) {
      const float* q = p.q.data() + t * p.q_stride + head * c.d;
      const std::int64_t last = c.first + t,
                         begin = c.window == 0 ? 0 : std::max<std::int64_t>(0, last + 1 - c.window);
      double q_sum = 0, largest = -1e300, sum = 0, score_size = 0, value_bound = 0;
      for (std::int64_t i = 0; i < c.d; ++i) q_sum += std::abs(q[i]);
      std::vector<double> score;
      for (std::int64_t k = begin; k <= last; ++k) {
        const auto at = static_cast<std::size_t>(k * c.kv_heads + head / group);
        double s = 0;
        for (std::int64_t i = 0; i < c.d; ++i)
          s += static_cast<double>(q[i]) * key[at][static_cast<std::size_t>(i)];
        score.push_back(s * p.scale());
        largest = std::max(largest, score.back());
        score_size = std::max(score_size, p.scale() * q_sum * key_size[at]);
        value_bound = std::max(value_bound, value_size[at]);
      }
      std::vector<double> o(static_cast<std::size_t>(c.d), 0);
      for (std::int64_t k = begin; k <= last; ++k) {
        const double weight = std::exp(score[static_cast<std::size_t>(k - begin)] - largest);
        sum += weight;
        const auto at = static_cast<std::size_t>(k * c.kv_heads + head / group);
        for (std::size_t i = 0; i < o.size(); ++i) o[i] += weight * value[at][i];
      }
      const auto seen = static_cast<double>(last + 1 - begin);
      for (const double x : o) {
        out.o.push_back(x / sum);
        out.bound.push_back(2 *
                            (1.1 * static_cast<double>(c.d + 8) * kUnit * score_size + (seen + 16) * kUnit) *
                            value_bound);
      }
    }
  }
  return out;
}

void run(const CachedAttentionArgs& args, std::int64_t begin, std::int64_t end) {
  Floats workspace(cached_attention_workspace_floats(args.cache.head_dim) + 16,
                   std::numeric_limits<float>::quiet_NaN());
  const auto address = reinterpret_cast<std::uintptr_t>(workspace.data());
  cached_attention(args, begin, end, workspace.data() + (64 - address % 64) / 4);
  EXPECT_TRUE(workspace.frame_intact());
}
Floats run(const Problem& p) {
  Floats o(p.shape.tokens * p.shape.heads * p.shape.d);
  const CachedAttentionArgs args = p.args(o);
  run(args, 0, cached_attention_items(args));
  EXPECT_TRUE(o.frame_intact());
  return o;
}

TEST_P(CachedAttention, MatchesF64OverTheStoredNumbers) {
  active(cached_attention_variants());
  for (const KvFormat format : kFormats) {
    for (const Case& c :
         {Case{0, 1, 1, 1, 2, 0}, Case{0, 1, 3, 1, 64, 0}, Case{62, 1, 9, 3, 64, 0}, Case{63, 1, 2, 2, 16, 0},
          Case{200, 1, 4, 1, 80, 0}, Case{0, 33, 4, 2, 16, 0}, Case{17, 40, 7, 1, 30, 0},
          Case{100, 65, 3, 1, 128, 0}, Case{150, 20, 2, 1, 16, 1}, Case{150, 37, 4, 2, 16, 50},
          Case{0, 70, 2, 1, 8, 64}, Case{300, 1, 3, 1, 64, 100}, Case{0, 20, 1, 1, 96, 500}}) {
      SCOPED_TRACE(::testing::Message()
                   << to_string(format) << " first " << c.first << " tokens " << c.tokens << " heads "
                   << c.heads << "/" << c.kv_heads << " D " << c.d << " window " << c.window);
      const Problem p(format, c, 11);
      const Truth wanted = truth(p);
      const Floats o = run(p);
      ASSERT_EQ(count_outside(o.span(), wanted.o, wanted.bound), 0);
    }
  }
}

TEST_P(CachedAttention, TheBoundCatchesOneChangedNumber) {
  active(cached_attention_variants());
  for (const KvFormat format : kFormats) {
    SCOPED_TRACE(to_string(format));
    Problem p(format, {40, 2, 2, 1, 16, 0}, 21);
    const Truth wanted = truth(p);
    p.keys[30 * 16 + 3] += 0.5f;
    p.store();
    EXPECT_GE(count_outside(run(p).span(), wanted.o, wanted.bound, false), 1);
    Problem r(format, {40, 2, 2, 1, 16, 0}, 21);
    r.values[5 * 16 + 2] += 0.5f;
    r.store();
    EXPECT_GE(count_outside(run(r).span(), wanted.o, wanted.bound, false), 1);
  }
}

TEST_P(CachedAttention, OneMoreOrLessOfTheWindowIsSeen) {
  const Problem p(KvFormat::kF16, {150, 20, 2, 1, 16, 50}, 31);
  const Truth wanted = truth(p);
  for (const std::int64_t window : {49, 51}) {
    Floats o(20 * 32);
    CachedAttentionArgs args = p.args(o);
    args.window = window;
    run(args, 0, cached_attention_items(args));
    EXPECT_GE(count_outside(o.span(), wanted.o, wanted.bound, false), 20);
  }
}

TEST_P(CachedAttention, BitsDependOnNeitherRangeNorNeighbours) {
  active(cached_attention_variants());
  for (const KvFormat format : kFormats) {
    for (const std::int64_t window : {0, 30}) {
      const Case c{50, 45, 6, 2, 16, window};
      const Problem p(format, c, 41);
      const Floats whole = run(p);
      // One item at a time.
      Floats pieces(whole.size());
      const CachedAttentionArgs args = p.args(pieces);
      for (std::int64_t i = cached_attention_items(args) - 1; i >= 0; --i) run(args, i, i + 1);
      EXPECT_TRUE(same_bits(whole.span(), pieces.span())) << to_string(format) << " window " << window;
      // One token at a time, as decoding does it.
      Floats single(whole.size());
      for (std::int64_t t = 0; t < c.tokens; ++t) {
        CachedAttentionArgs one = p.args(single);
        one.q += t * one.q_stride;
        one.o += t * one.o_stride;
        one.first += t;
        one.tokens = 1;
        run(one, 0, cached_attention_items(one));
      }
      EXPECT_TRUE(same_bits(whole.span(), single.span())) << to_string(format) << " window " << window;
    }
  }
}

TEST_P(CachedAttention, LargeScoresStayFiniteAndNanShows) {
  for (const KvFormat format : kFormats) {
    Problem p(format, {90, 3, 1, 1, 8, 0}, 51);
    for (float& x : p.q.span()) x *= 1e4f;
    const Floats o = run(p);
    for (const float x : o.span()) ASSERT_TRUE(std::isfinite(x)) << to_string(format);
    p.q[2] = std::nanf("");
    EXPECT_TRUE(std::isnan(run(p)[0])) << to_string(format);
  }
}

}  // namespace
}  // namespace crumb::kernels::test
