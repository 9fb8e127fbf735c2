#include "kernels/attention.h"

#include <algorithm>

#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

class Attention : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Attention, Isa::kRef, Isa::kAvx2, Isa::kAvx512);

AttentionShape shape_of(std::int64_t batch, std::int64_t tokens, std::int64_t heads, std::int64_t kv_heads,
                        std::int64_t head_dim, std::int64_t window) {
  return {batch,
          tokens,
          heads,
          kv_heads,
          head_dim,
          window,
          static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)))};
}

/// A tensor [B, T, heads, D] with `gap` NaNs behind each token.
struct Heads {
  Floats data;
  std::int64_t token_stride, batch_stride, width;
  HeadsView<float> view() { return {data.data(), token_stride, batch_stride}; }
  HeadsView<const float> cview() const { return {data.data(), token_stride, batch_stride}; }
  std::int64_t at(std::int64_t b, std::int64_t t, std::int64_t i) const {
    return b * batch_stride + t * token_stride + i;
  }
};

Heads heads_of(const AttentionShape& s, std::int64_t heads, std::uint64_t seed, std::int64_t gap,
               double deviation = 1.0) {
  const std::int64_t width = heads * s.head_dim, stride = width + gap;
  Heads h{random_floats(s.batch * s.tokens * stride, seed, deviation), stride, s.tokens * stride, width};
  for (std::int64_t t = 0; t < s.batch * s.tokens; ++t)
    std::fill_n(h.data.data() + t * stride + width, gap, std::nanf(""));
  return h;
}

struct Problem {
  AttentionShape shape;
  Heads q, k, v, grad_o;
};

Problem problem_of(const AttentionShape& s, std::int64_t gap) {
  return {s, heads_of(s, s.query_heads, 1, gap, 2.0), heads_of(s, s.kv_heads, 2, gap, 2.0),
          heads_of(s, s.kv_heads, 3, 2 * gap), heads_of(s, s.query_heads, 4, gap)};
}

struct Truth {
  std::vector<double> o, lse, dq, dk,
      dv;  // o and dq [B, T, heads * D], dk and dv [B, T, kv_heads * D], lse [B, heads, T]
};

Truth truth(const Problem& p) {
  const AttentionShape& s = p.shape;
  const std::int64_t d = s.head_dim, per_kv = s.query_heads / s.kv_heads;
  const auto zeros = [](std::int64_t n) { return std::vector<double>(static_cast<std::size_t>(n), 0.0); };
  Truth out{zeros(s.batch * s.tokens * s.query_heads * d), zeros(s.batch * s.query_heads * s.tokens),
            zeros(s.batch * s.tokens * s.query_heads * d), zeros(s.batch * s.tokens * s.kv_heads * d),
            zeros(s.batch * s.tokens * s.kv_heads * d)};
  const auto cell = [&](std::int64_t b, std::int64_t t, std::int64_t heads, std::int64_t h) {
    return static_cast<std::size_t>(((b * s.tokens + t) * heads + h) * d);
  };
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t h = 0; h < s.query_heads; ++h) {
      const std::int64_t kv = h / per_kv;
      for (std::int64_t t = 0; t < s.tokens; ++t) {
        const std::int64_t first = s.window == 0 ? 0 : std::max<std::int64_t>(0, t - s.window + 1);
        const float *q = &p.q.data.data()[p.q.at(b, t, h * d)],
                    *go = &p.grad_o.data.data()[p.grad_o.at(b, t, h * d)];
        std::vector<double> weight;
        double largest = -1e300;
        for (std::int64_t u = first; u <= t; ++u) {
          double dot = 0;
          for (std::int64_t i = 0; i < d; ++i)
            dot += static_cast<double>(q[i]) * p.k.data[p.k.at(b, u, kv * d + i)];
          weight.push_back(dot * s.scale);
          largest = std::max(largest, weight.back());
        }
        double sum = 0;
        for (double& w : weight) sum += w = std::exp(w - largest);
        out.lse[static_cast<std::size_t>((b * s.query_heads + h) * s.tokens + t)] = largest + std::log(sum);
        for (double& w : weight) w /= sum;
        double* o = &out.o[cell(b, t, s.query_heads, h)];
        double delta = 0;
        for (std::int64_t u = first; u <= t; ++u) {
          for (std::int64_t i = 0; i < d; ++i)
            o[i] += weight[static_cast<std::size_t>(u - first)] * p.v.data[p.v.at(b, u, kv * d + i)];
        }
        for (std::int64_t i = 0; i < d; ++i) delta += o[i] * go[i];
        for (std::int64_t u = first; u <= t; ++u) {
          const double w = weight[static_cast<std::size_t>(u - first)];
          double dp = 0;
          for (std::int64_t i = 0; i < d; ++i)
            dp += static_cast<double>(go[i]) * p.v.data[p.v.at(b, u, kv * d + i)];
          const double ds = w * (dp - delta) * s.scale;
          for (std::int64_t i = 0; i < d; ++i) {
            out.dv[cell(b, u, s.kv_heads, kv) + static_cast<std::size_t>(i)] += w * go[i];
            out.dk[cell(b, u, s.kv_heads, kv) + static_cast<std::size_t>(i)] += ds * q[i];
            out.dq[cell(b, t, s.query_heads, h) + static_cast<std::size_t>(i)] +=
                ds * p.k.data[p.k.at(b, u, kv * d + i)];
          }
        }
      }
    }
  }
  return out;
}

std::vector<float> dense(const Heads& h, const AttentionShape& s) {
  std::vector<float> out;
  for (std::int64_t t = 0; t < s.batch * s.tokens; ++t) {
    out.insert(out.end(), h.data.data() + t * h.token_stride, h.data.data() + t * h.token_stride + h.width);
  }
  return out;
}

struct Result {
  Heads o, dq, dk, dv;
  Floats lse;
};

Result run(const Problem& p, SgemmFn gemm = nullptr) {
  const AttentionShape& s = p.shape;
  Result r{heads_of(s, s.query_heads, 9, 3), heads_of(s, s.query_heads, 9, 1), heads_of(s, s.kv_heads, 9, 2),
           heads_of(s, s.kv_heads, 9, 0), Floats(s.batch * s.query_heads * s.tokens)};
  causal_attention(s, p.q.cview(), p.k.cview(), p.v.cview(), r.o.view(), r.lse.data(), gemm);
  causal_attention_backward(s, p.q.cview(), p.k.cview(), p.v.cview(), r.o.cview(), r.lse.data(),
                            p.grad_o.cview(), r.dq.view(), r.dk.view(), r.dv.view(), gemm);
  return r;
}

/// A score's error is (D + 2) 2^-24 sum |q k| scale, at most `score_error` here; it moves a probability by
/// that factor, and probabilities round to 2^-22. Sums over T keys (or queries) then lose (T + D) 2^-24 of
/// the sum of magnitudes. One number bounds a whole tensor: its relative error times the largest value that
/// can be met, which the deviations of the random data fix at about 8 for o, and sqrt(T D) times as much for
/// gradients.
double tolerance(const AttentionShape& s, double largest) {
  const double score_error =
      static_cast<double>(s.head_dim + 2) * kUnit * 16.0 * std::sqrt(static_cast<double>(s.head_dim));
  return (2 * score_error + static_cast<double>(s.tokens + s.head_dim + 8) * kUnit) * largest;
}

double largest_of(const std::vector<double>& x) {
  double m = 1;
  for (const double value : x) m = std::max(m, std::abs(value));
  return m;
}

void expect_close(const std::vector<float>& actual, const std::vector<double>& wanted, double bound,
                  const char* what) {
  SCOPED_TRACE(what);
  EXPECT_EQ(count_outside(actual, wanted, std::vector<double>(wanted.size(), bound)), 0);
}

TEST_P(Attention, ForwardAndBackwardMatchF64) {
  active(attention_variants());
  active(sgemm_variants());
  for (const AttentionShape& s :
       {shape_of(1, 1, 1, 1, 4, 0), shape_of(2, 5, 4, 2, 7, 0), shape_of(1, 119, 3, 1, 16, 0),
        shape_of(1, 121, 2, 2, 33, 0), shape_of(2, 257, 2, 1, 64, 0), shape_of(1, 300, 1, 1, 80, 1),
        shape_of(1, 300, 2, 1, 8, 3), shape_of(1, 530, 1, 1, 8, 130), shape_of(1, 530, 1, 1, 8, 300),
        shape_of(1, 20, 1, 1, 8, 500)}) {
    SCOPED_TRACE(::testing::Message() << "T " << s.tokens << " heads " << s.query_heads << "/" << s.kv_heads
                                      << " D " << s.head_dim << " window " << s.window);
    const Problem p = problem_of(s, 5);
    const Truth wanted = truth(p);
    const Result r = run(p);
    expect_close(dense(r.o, s), wanted.o, tolerance(s, 4), "o");
    expect_close({r.lse.span().begin(), r.lse.span().end()}, wanted.lse, tolerance(s, 4) + 32 * kUnit, "lse");
    expect_close(dense(r.dq, s), wanted.dq, tolerance(s, 4 * largest_of(wanted.dq)), "grad_q");
    expect_close(dense(r.dk, s), wanted.dk, tolerance(s, 4 * largest_of(wanted.dk)), "grad_k");
    expect_close(dense(r.dv, s), wanted.dv, tolerance(s, 4 * largest_of(wanted.dv)), "grad_v");
    EXPECT_TRUE(r.o.data.frame_intact() && r.dq.data.frame_intact() && r.dk.data.frame_intact() &&
                r.dv.data.frame_intact());
    for (std::int64_t t = 0; t < s.batch * s.tokens; ++t) {
      EXPECT_TRUE(std::isnan(r.o.data[t * r.o.token_stride + r.o.width]));
      EXPECT_TRUE(std::isnan(r.dk.data[t * r.dk.token_stride + r.dk.width]));
    }
  }
}

TEST_P(Attention, LaterTokensDoNotReachEarlierOnes) {
  const AttentionShape s = shape_of(1, 260, 2, 1, 16, 0);
  Problem p = problem_of(s, 0);
  const Result before = run(p);
  for (std::int64_t i = 0; i < p.k.width; ++i) {
    p.k.data[p.k.at(0, 259, i)] = 50.0f;
    p.v.data[p.v.at(0, 259, i)] = -50.0f;
  }
  const Result after = run(p);
  EXPECT_EQ(std::memcmp(before.o.data.data(), after.o.data.data(),
                        static_cast<std::size_t>(before.o.token_stride) * 258 * 4),
            0);
  EXPECT_NE(before.o.data[before.o.at(0, 259, 0)], after.o.data[after.o.at(0, 259, 0)]);
}

TEST_P(Attention, TheToleranceCatchesOneChangedKey) {
  const AttentionShape s = shape_of(1, 150, 2, 1, 16, 0);
  Problem p = problem_of(s, 0);
  const Truth wanted = truth(p);
  p.k.data[p.k.at(0, 30, 3)] += 0.01f;
  const Result r = run(p);
  const auto outside = [&](const std::vector<float>& actual, const std::vector<double>& value, double bound) {
    return count_outside(actual, value, std::vector<double>(value.size(), bound), false);
  };
  EXPECT_GE(outside(dense(r.o, s), wanted.o, tolerance(s, 4)), 1);
  EXPECT_GE(outside(dense(r.dq, s), wanted.dq, tolerance(s, 4 * largest_of(wanted.dq))), 1);
  EXPECT_GE(outside(dense(r.dk, s), wanted.dk, tolerance(s, 4 * largest_of(wanted.dk))), 1);
  EXPECT_GE(outside(dense(r.dv, s), wanted.dv, tolerance(s, 4 * largest_of(wanted.dv))), 1);
}

TEST_P(Attention, LargeScoresNeitherOverflowNorHideNan) {
  const AttentionShape s = shape_of(1, 140, 1, 1, 8, 0);
  Problem p = problem_of(s, 0);
  for (float& x : p.q.data.span()) x *= 300.0f;
  const Result r = run(p);
  for (const float x : dense(r.o, s)) ASSERT_TRUE(std::isfinite(x));
  p.v.data[p.v.at(0, 5, 0)] = std::nanf("");
  EXPECT_TRUE(std::isnan(run(p).o.data[r.o.at(0, 139, 0)]));
}

TEST_P(Attention, OneThreadAndManyGiveTheSameBits) {
  for (const AttentionShape& s : {shape_of(1, 520, 4, 2, 16, 0), shape_of(1, 520, 2, 1, 16, 100)}) {
    const Problem p = problem_of(s, 0);
    omp_set_num_threads(1);
    const Result one = run(p);
    for (const int threads :
         {2, 3, 5}) {  // the backward pass splits in two when key/value heads are fewer than threads
      omp_set_num_threads(threads);
      const Result many = run(p);
      EXPECT_EQ(dense(one.o, s), dense(many.o, s)) << threads;
      EXPECT_EQ(dense(one.dq, s), dense(many.dq, s)) << threads;
      EXPECT_EQ(dense(one.dk, s), dense(many.dk, s)) << threads;
      EXPECT_EQ(dense(one.dv, s), dense(many.dv, s)) << threads;
    }
  }
}

int foreign_calls = 0;
void foreign_gemm(const SgemmArgs& args, float*) {
#pragma omp atomic
  ++foreign_calls;
  sgemm_ref()->run(args, nullptr);
}

TEST_P(Attention, ProductsGoThroughTheCallersGemm) {
  const AttentionShape s = shape_of(1, 40, 1, 1, 8, 0);
  const Problem p = problem_of(s, 0);
  const Truth wanted = truth(p);
  omp_set_num_threads(1);  // one pass
  foreign_calls = 0;
  const Result r = run(p, foreign_gemm);
  EXPECT_EQ(foreign_calls, 2 + 5);
  expect_close(dense(r.o, s), wanted.o, tolerance(s, 4), "o");
}

}  // namespace
}  // namespace crumb::kernels::test
