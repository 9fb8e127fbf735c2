#include "kernels/rope.h"

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class Rope : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Rope, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

struct Case {
  std::int64_t batch, tokens, heads, head_dim, rotary_dim, gap;
};

struct Table {
  Floats cos, sin;
};

Table table_of(const Case& c) {
  Table t{Floats(c.tokens * c.rotary_dim / 2), Floats(c.tokens * c.rotary_dim / 2)};
  for (std::int64_t i = 0; i < t.cos.size(); ++i) {
    const double angle = 0.37 * static_cast<double>(i);
    t.cos[i] = static_cast<float>(std::cos(angle));
    t.sin[i] = static_cast<float>(std::sin(angle));
  }
  return t;
}

TEST_P(Rope, RotatesEveryPairAndTurnsBack) {
  active(rope_variants());
  for (const Case& c :
       {Case{2, 5, 3, 64, 64, 0}, Case{1, 3, 2, 8, 8, 5}, Case{2, 2, 1, 10, 6, 1}, Case{1, 4, 2, 80, 80, 16},
        Case{3, 1, 5, 2, 2, 0}, Case{1, 7, 1, 34, 34, 3}, Case{1, 2, 2, 16, 0, 0}}) {
    SCOPED_TRACE(::testing::Message() << "head_dim " << c.head_dim << " rotary_dim " << c.rotary_dim);
    const std::int64_t width = c.heads * c.head_dim, stride = width + c.gap, tokens = c.batch * c.tokens,
                       half = c.rotary_dim / 2;
    Floats x = random_floats(tokens * stride, 1);
    const Table t = table_of(c);
    Floats y(tokens * width), back(tokens * stride, -7.0f);
    rope({x.data(), t.cos.data(), t.sin.data(), y.data(), c.batch, c.tokens, c.heads, c.head_dim,
          c.rotary_dim, stride, width});
    rope_backward({y.data(), t.cos.data(), t.sin.data(), back.data(), c.batch, c.tokens, c.heads, c.head_dim,
                   c.rotary_dim, width, stride});
    for (std::int64_t token = 0; token < tokens; ++token) {
      for (std::int64_t j = 0; j < width; ++j) {
        const std::int64_t i = j % c.head_dim, row = token % c.tokens * half;
        const float* head = x.data() + token * stride + j - i;
        double wanted = head[i], bound = 0;
        if (i < c.rotary_dim) {
          const std::int64_t p = i % half;
          const double cos = t.cos[row + p], sin = t.sin[row + p];
          wanted = i < half ? head[p] * cos - head[p + half] * sin : head[p + half] * cos + head[p] * sin;
          bound = 2 * kUnit * (std::abs(head[p]) + std::abs(head[p + half]));
        }
        ASSERT_LE(std::abs(y[token * width + j] - wanted), bound) << token << " " << j;
        // An orthogonal map and its transpose; cos and sin themselves are rounded to 2^-24.
        ASSERT_NEAR(back[token * stride + j], head[i], 2e-6) << token << " " << j;
      }
      for (std::int64_t j = width; j < stride; ++j) ASSERT_EQ(back[token * stride + j], -7.0f);
    }
    ASSERT_TRUE(y.frame_intact() && back.frame_intact());
    Floats in_place = x;
    rope({in_place.data(), t.cos.data(), t.sin.data(), in_place.data(), c.batch, c.tokens, c.heads,
          c.head_dim, c.rotary_dim, stride, stride});
    for (std::int64_t i = 0; i < tokens * width; ++i)
      ASSERT_EQ(in_place[i / width * stride + i % width], y[i]);
  }
}

TEST_P(Rope, AnotherPositionGivesAnotherResult) {
  const Case c{1, 2, 1, 16, 16, 0};
  Table t = table_of(c);
  Floats x(32, 1.0f), y(32);
  rope({x.data(), t.cos.data(), t.sin.data(), y.data(), 1, 2, 1, 16, 16, 16, 16});
  EXPECT_NE(y[1], y[17]);
}

}  // namespace
}  // namespace crumb::kernels::test
