// Causal attention, forward and backward, without ever holding T x T numbers.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"
#include "kernels/sgemm.h"

namespace crumb::kernels {

/// A view [B, T, heads, D] f32: heads contiguous inside a token, tokens `token_stride` floats apart,
/// sequences `batch_stride` floats apart.
template <class T>
struct HeadsView {
  T* data = nullptr;
  std::int64_t token_stride = 0, batch_stride = 0;
};

/// o = softmax(q k^T * scale + mask) v. Query head h reads key/value head h / (query_heads / kv_heads). Token
/// t sees tokens (t - window, t], all of [0, t] when window == 0.
struct AttentionShape {
  std::int64_t batch = 0, tokens = 0, query_heads = 0, kv_heads = 0,
               head_dim = 0;  // query_heads % kv_heads == 0
  std::int64_t window = 0;
  float scale = 0;  // usually 1 / sqrt(head_dim)
};

/// Flash-style: blocks of queries meet blocks of keys, the softmax is kept on line (arXiv:2205.14135
/// Algorithm 1), so memory beyond the outputs is a few hundred KiB a thread. Products go through `gemm`, on
/// one thread each, from inside the parallel region; nullptr takes own_sgemm().
///
/// o (out) [B, T, query_heads, D]; lse (out) [B, query_heads, T]: log of the sum of exp(score), kept for the
/// backward pass. Deterministic for any number of threads as far as `gemm` is. Error against f64 per element:
/// (D + T) * 2^-23 * max |v| * (1 + max |scale q k|).
void causal_attention(const AttentionShape& shape, HeadsView<const float> q, HeadsView<const float> k,
                      HeadsView<const float> v, HeadsView<float> o, float* lse, SgemmFn gemm = nullptr);

/// Gradients of q, k, v from grad_o, recomputing the probabilities from lse (arXiv:2205.14135 Algorithm 4).
/// Outputs are overwritten and alias no input.
void causal_attention_backward(const AttentionShape& shape, HeadsView<const float> q,
                               HeadsView<const float> k, HeadsView<const float> v, HeadsView<const float> o,
                               const float* lse, HeadsView<const float> grad_o, HeadsView<float> grad_q,
                               HeadsView<float> grad_k, HeadsView<float> grad_v, SgemmFn gemm = nullptr);

/// One block of scores s [rows, ld], of which row r sees columns [first[r], last[r]).
struct ScoreBlock {
  float* s;
  std::int64_t rows, columns, ld;
  std::int64_t first_row, first_column,
      window;  // positions of row 0 and column 0; columns beyond what a row sees become 0
  float scale;
};

struct AttentionFunctions {
  /// s := exp(scale * s - m_new) where seen, else 0; running row maxima `m` and sums `l` are brought up to
  /// date, and the output rows o [rows, D] gathered so far (rows o_stride apart) are multiplied by exp(m_old
  /// - m_new).
  void (*online_softmax)(const ScoreBlock&, float* m, float* l, float* o, std::int64_t o_stride,
                         std::int64_t head_dim) noexcept;
  /// o row r divided by l[r]; lse[r] = m[r] + log(l[r]).
  void (*finish)(const float* m, const float* l, float* o, std::int64_t o_stride, std::int64_t rows,
                 std::int64_t head_dim, float* lse) noexcept;
  /// delta[r] = sum_d o[r, d] * grad_o[r, d]
  void (*row_dots)(const float* o, std::int64_t o_stride, const float* grad_o, std::int64_t grad_o_stride,
                   std::int64_t rows, std::int64_t head_dim, float* delta) noexcept;
  /// s := p = exp(scale * s - lse[r]) where seen, else 0;  ds := p * (ds - delta[r]) * scale  (ds holds
  /// grad_o v^T, same ld)
  void (*backward_scores)(const ScoreBlock&, const float* lse, const float* delta, float* ds) noexcept;
};
std::span<const Variant<AttentionFunctions>> attention_variants();
const AttentionFunctions* attention_ref() noexcept;
const AttentionFunctions* attention_avx2() noexcept;
const AttentionFunctions* attention_avx512() noexcept;

}  // namespace crumb::kernels
