#include "kernels/attention.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <memory>
#include <new>

#include <omp.h>

#include "base/check.h"

namespace crumb::kernels {
namespace {

// A block of scores, 120 x 256 floats, and its gradient fit the second-level cache together with the
// operands. 120 is a multiple of both register tiles of sgemm; the triangle wasted on the diagonal is half of
// it a row.
constexpr std::int64_t kRows = 120, kColumns = 256;

struct Free {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Buffer = std::unique_ptr<float[], Free>;
Buffer floats(std::int64_t count) {
  return Buffer(static_cast<float*>(
      ::operator new[](static_cast<std::size_t>(count) * sizeof(float), std::align_val_t{64})));
}

/// Queries [i, i + rows) meet keys [j, j + columns).
struct Range {
  std::int64_t begin, count;
};

// Keys that some query of `rows` sees, cut at multiples of kColumns so that the sums' order is the same
// whoever asks.
std::int64_t first_key_block(const AttentionShape& shape, Range rows) {
  return shape.window == 0 ? 0 : std::max<std::int64_t>(0, rows.begin - shape.window + 1) / kColumns;
}
std::int64_t end_key_block(Range rows) {
  return (rows.begin + rows.count + kColumns - 1) / kColumns;
}
Range keys_of(std::int64_t block, Range rows) {
  const std::int64_t begin = block * kColumns;
  return {begin, std::min(begin + kColumns, rows.begin + rows.count) - begin};
}
Range queries_of(std::int64_t block, std::int64_t tokens) {
  return {block * kRows, std::min(kRows, tokens - block * kRows)};
}

void check(const AttentionShape& s) {
  CRUMB_CHECK(s.kv_heads > 0 && s.query_heads % s.kv_heads == 0 && s.head_dim > 0 && s.window >= 0 &&
              s.scale > 0);
}

template <class T>
T* head_of(const HeadsView<T>& view, std::int64_t batch, std::int64_t token, std::int64_t head,
           std::int64_t head_dim) {
  return view.data + batch * view.batch_stride + token * view.token_stride + head * head_dim;
}

/// body(item, workspace) on all threads, items in order of their cost, largest first by the caller. An item's
/// result does not depend on the thread that makes it. An exception of `body` (a caller's gemm may throw) is
/// thrown again here.
template <class Body>
void for_items(std::int64_t items, std::int64_t workspace_floats, const Body& body) {
  const auto threads = static_cast<int>(
      omp_in_parallel() ? 1
                        : std::max<std::int64_t>(1, std::min<std::int64_t>(omp_get_max_threads(), items)));
  const std::int64_t stride = (workspace_floats + 15) / 16 * 16;
  const Buffer workspace = floats(stride * threads);
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t item = 0; item < items; ++item) {
    try {
      body(item, workspace.get() + (threads == 1 ? 0 : omp_get_thread_num()) * stride);
    } catch (...) {
#pragma omp critical(crumb_attention_failure)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

struct Backward {
  const AttentionShape& shape;
  HeadsView<const float> q, k, v, o;
  const float* lse;
  HeadsView<const float> grad_o;
  HeadsView<float> grad_q, grad_k, grad_v;
  SgemmFn gemm;
  const AttentionFunctions& run;

  static constexpr std::int64_t kWorkspace = 2 * kRows * kColumns + 128;

  // Where queries of one head meet one block of keys. `for_q` adds to grad_q, `for_kv` to grad_k and grad_v.
  void meet(std::int64_t batch, std::int64_t head, Range rows, std::int64_t key_block, bool for_q,
            bool for_kv, float* workspace) const {
    const std::int64_t d = shape.head_dim, kv = head / (shape.query_heads / shape.kv_heads);
    const Range keys = keys_of(key_block, rows);
    float *const s = workspace, *const ds = s + kRows * kColumns, *const delta = ds + kRows * kColumns,
                 *const pack = delta + 128;
    const float *q_rows = head_of(q, batch, rows.begin, head, d),
                *go = head_of(grad_o, batch, rows.begin, head, d);
    const float *k_rows = head_of(k, batch, keys.begin, kv, d),
                *v_rows = head_of(v, batch, keys.begin, kv, d);
    run.row_dots(head_of(o, batch, rows.begin, head, d), o.token_stride, go, grad_o.token_stride, rows.count,
                 d, delta);
    gemm({false, true, rows.count, keys.count, d, q_rows, q.token_stride, k_rows, k.token_stride, s, kColumns,
          false},
         pack);
    gemm({false, true, rows.count, keys.count, d, go, grad_o.token_stride, v_rows, v.token_stride, ds,
          kColumns, false},
         pack);
    const ScoreBlock block{s,          rows.count, keys.count,   kColumns,
                           rows.begin, keys.begin, shape.window, shape.scale};
    run.backward_scores(block, lse + (batch * shape.query_heads + head) * shape.tokens + rows.begin, delta,
                        ds);
    if (for_kv) {
      gemm({true, false, keys.count, d, rows.count, s, kColumns, go, grad_o.token_stride,
            head_of(grad_v, batch, keys.begin, kv, d), grad_v.token_stride, true},
           pack);
      gemm({true, false, keys.count, d, rows.count, ds, kColumns, q_rows, q.token_stride,
            head_of(grad_k, batch, keys.begin, kv, d), grad_k.token_stride, true},
           pack);
    }
    if (for_q) {
      gemm({false, false, rows.count, d, keys.count, ds, kColumns, k_rows, k.token_stride,
            head_of(grad_q, batch, rows.begin, head, d), grad_q.token_stride,
            key_block > first_key_block(shape, rows)},
           pack);
    }
  }

  void clear_keys(std::int64_t batch, std::int64_t kv, Range keys) const {
    for (std::int64_t t = keys.begin; t < keys.begin + keys.count; ++t) {
      std::fill_n(head_of(grad_k, batch, t, kv, shape.head_dim), shape.head_dim, 0.0f);
      std::fill_n(head_of(grad_v, batch, t, kv, shape.head_dim), shape.head_dim, 0.0f);
    }
  }

  /// All queries of the heads that share a key/value head, against key blocks [begin, end): each block's sums
  /// run over heads, then queries.
  void meet_keys(std::int64_t batch, std::int64_t kv, std::int64_t begin, std::int64_t end, bool for_q,
                 float* workspace) const {
    const std::int64_t per_kv = shape.query_heads / shape.kv_heads,
                       query_blocks = (shape.tokens + kRows - 1) / kRows;
    const std::int64_t first_key = begin * kColumns;
    clear_keys(batch, kv, {first_key, std::min(end * kColumns, shape.tokens) - first_key});
    for (std::int64_t head = kv * per_kv; head < (kv + 1) * per_kv; ++head) {
      for (std::int64_t i = 0; i < query_blocks; ++i) {
        const Range rows = queries_of(i, shape.tokens);
        const std::int64_t from = std::max(begin, first_key_block(shape, rows)),
                           to = std::min(end, end_key_block(rows));
        for (std::int64_t j = from; j < to; ++j) meet(batch, head, rows, j, for_q, true, workspace);
      }
    }
  }
};

}  // namespace

std::span<const Variant<AttentionFunctions>> attention_variants() {
  static const Variant<AttentionFunctions> kVariants[] = {
      {Isa::kAvx512, attention_avx512()}, {Isa::kAvx2, attention_avx2()}, {Isa::kRef, attention_ref()}};
  return kVariants;
}

void causal_attention(const AttentionShape& shape, HeadsView<const float> q, HeadsView<const float> k,
                      HeadsView<const float> v, HeadsView<float> o, float* lse, SgemmFn gemm) {
  check(shape);
  const AttentionFunctions& run = *choose(attention_variants()).run;
  if (gemm == nullptr) gemm = own_sgemm();
  const std::int64_t d = shape.head_dim, query_blocks = (shape.tokens + kRows - 1) / kRows,
                     heads = shape.batch * shape.query_heads;
  for_items(
      heads * query_blocks, kRows * kColumns + 256 + sgemm_workspace_floats(),
      [&](std::int64_t item, float* workspace) {
        const std::int64_t i = query_blocks - 1 - item / heads, batch = item % heads / shape.query_heads,
                           head = item % shape.query_heads;
        const std::int64_t kv = head / (shape.query_heads / shape.kv_heads);
        const Range rows = queries_of(i, shape.tokens);
        float *const s = workspace, *const m = s + kRows * kColumns, *const l = m + 128,
                     *const pack = l + 128;
        float* const out = head_of(o, batch, rows.begin, head, d);
        std::fill_n(m, rows.count, -std::numeric_limits<float>::infinity());
        std::fill_n(l, rows.count, 0.0f);
        for (std::int64_t r = 0; r < rows.count; ++r) std::fill_n(out + r * o.token_stride, d, 0.0f);
        for (std::int64_t j = first_key_block(shape, rows); j < end_key_block(rows); ++j) {
          const Range keys = keys_of(j, rows);
          gemm({false, true, rows.count, keys.count, d, head_of(q, batch, rows.begin, head, d),
                q.token_stride, head_of(k, batch, keys.begin, kv, d), k.token_stride, s, kColumns, false},
               pack);
          run.online_softmax(
              {s, rows.count, keys.count, kColumns, rows.begin, keys.begin, shape.window, shape.scale}, m, l,
              out, o.token_stride, d);
          gemm({false, false, rows.count, d, keys.count, s, kColumns, head_of(v, batch, keys.begin, kv, d),
                v.token_stride, out, o.token_stride, true},
               pack);
        }
        run.finish(m, l, out, o.token_stride, rows.count, d,
                   lse + (batch * shape.query_heads + head) * shape.tokens + rows.begin);
      });
}

void causal_attention_backward(const AttentionShape& shape, HeadsView<const float> q,
                               HeadsView<const float> k, HeadsView<const float> v, HeadsView<const float> o,
                               const float* lse, HeadsView<const float> grad_o, HeadsView<float> grad_q,
                               HeadsView<float> grad_k, HeadsView<float> grad_v, SgemmFn gemm) {
  check(shape);
  if (gemm == nullptr) gemm = own_sgemm();
  const Backward pass{shape,  q,      k,      v,      o,    lse,
                      grad_o, grad_q, grad_k, grad_v, gemm, *choose(attention_variants()).run};
  const std::int64_t key_blocks = (shape.tokens + kColumns - 1) / kColumns,
                     query_blocks = (shape.tokens + kRows - 1) / kRows;
  const std::int64_t workspace = Backward::kWorkspace + sgemm_workspace_floats();
  const std::int64_t groups = shape.batch * shape.kv_heads, heads = shape.batch * shape.query_heads;
  // One item a key/value head makes everything in five products. When such items cannot fill the threads, two
  // passes of smaller items recompute the scores, seven products in all: worth it where less than 5/7 of the
  // threads would work. Every sum keeps its order, so the bits do not change.
  const std::int64_t threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  const std::int64_t rounds = (groups + threads - 1) / std::max<std::int64_t>(threads, 1);
  if (groups * 7 >= rounds * threads * 5) {
    for_items(groups, workspace, [&](std::int64_t item, float* memory) {
      pass.meet_keys(item / shape.kv_heads, item % shape.kv_heads, 0, key_blocks, true, memory);
    });
    return;
  }
  for_items(groups * key_blocks, workspace,
            [&](std::int64_t item, float* memory) {  // early keys meet most queries
              const std::int64_t j = item / groups, group = item % groups;
              pass.meet_keys(group / shape.kv_heads, group % shape.kv_heads, j, j + 1, false, memory);
            });
  for_items(heads * query_blocks, workspace, [&](std::int64_t item, float* memory) {
    const Range rows = queries_of(query_blocks - 1 - item / heads, shape.tokens);
    for (std::int64_t j = first_key_block(shape, rows); j < end_key_block(rows); ++j) {
      pass.meet(item % heads / shape.query_heads, item % shape.query_heads, rows, j, true, false, memory);
    }
  });
}

}  // namespace crumb::kernels
