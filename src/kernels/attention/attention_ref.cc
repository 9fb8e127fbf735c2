#include <cmath>
#include <limits>

#include "kernels/attention.h"

namespace crumb::kernels {
namespace {

bool seen(const ScoreBlock& b, std::int64_t row, std::int64_t column) {
  const std::int64_t t = b.first_row + row, other = b.first_column + column;
  return other <= t && (b.window == 0 || other > t - b.window);
}

void online_softmax(const ScoreBlock& b, float* m, float* l, float* o, std::int64_t o_stride,
                    std::int64_t head_dim) noexcept {
  for (std::int64_t r = 0; r < b.rows; ++r) {
    float* s = b.s + r * b.ld;
    double largest = m[r];
    for (std::int64_t c = 0; c < b.columns; ++c) {
      if (seen(b, r, c)) largest = std::fmax(largest, static_cast<double>(b.scale) * s[c]);
    }
    if (largest == -std::numeric_limits<double>::infinity()) {  // nothing seen yet
      for (std::int64_t c = 0; c < b.columns; ++c) s[c] = 0;
      continue;
    }
    const auto rounded = static_cast<float>(largest);
    const double correction = std::exp(static_cast<double>(m[r]) - rounded);
    double sum = 0;
    for (std::int64_t c = 0; c < b.columns; ++c) {
      s[c] =
          seen(b, r, c) ? static_cast<float>(std::exp(static_cast<double>(b.scale) * s[c] - rounded)) : 0.0f;
      sum += s[c];
    }
    for (std::int64_t d = 0; d < head_dim; ++d)
      o[r * o_stride + d] = static_cast<float>(o[r * o_stride + d] * correction);
    l[r] = static_cast<float>(l[r] * correction + sum);
    m[r] = rounded;
  }
}

void finish(const float* m, const float* l, float* o, std::int64_t o_stride, std::int64_t rows,
            std::int64_t head_dim, float* lse) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < head_dim; ++d) o[r * o_stride + d] /= l[r];
    lse[r] = static_cast<float>(m[r] + std::log(static_cast<double>(l[r])));
  }
}

void row_dots(const float* o, std::int64_t o_stride, const float* grad_o, std::int64_t grad_o_stride,
              std::int64_t rows, std::int64_t head_dim, float* delta) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (std::int64_t d = 0; d < head_dim; ++d)
      sum += static_cast<double>(o[r * o_stride + d]) * grad_o[r * grad_o_stride + d];
    delta[r] = static_cast<float>(sum);
  }
}

void backward_scores(const ScoreBlock& b, const float* lse, const float* delta, float* ds) noexcept {
  for (std::int64_t r = 0; r < b.rows; ++r) {
    for (std::int64_t c = 0; c < b.columns; ++c) {
      float &s = b.s[r * b.ld + c], &d = ds[r * b.ld + c];
      const double p = seen(b, r, c) ? std::exp(static_cast<double>(b.scale) * s - lse[r]) : 0.0;
      d = seen(b, r, c) ? static_cast<float>(p * (static_cast<double>(d) - delta[r]) * b.scale) : 0.0f;
      s = static_cast<float>(p);
    }
  }
}

}  // namespace

const AttentionFunctions* attention_ref() noexcept {
  static constexpr AttentionFunctions kFunctions = {online_softmax, finish, row_dots, backward_scores};
  return &kFunctions;
}

}  // namespace crumb::kernels
