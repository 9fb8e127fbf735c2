#pragma once
#include "kernels/rms_norm.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

void forward(const float* x, const float* weight, float eps, std::int64_t m, std::int64_t h, float* y,
             float* rstd) noexcept {
  for (std::int64_t i = 0; i < m; ++i) {
    const float* row = x + i * h;
    float* out = y + i * h;
    Sum64 squares;
    for_vectors(
        h, [&](std::int64_t j) { add_product_f64(squares, load(row + j), load(row + j)); },
        [&](std::int64_t j, std::int64_t rest) {
          add_product_f64(squares, load_n(row + j, rest), load_n(row + j, rest));
        });
    rstd[i] = static_cast<float>(
        1.0 / __builtin_sqrt(total(squares) / static_cast<double>(h) + static_cast<double>(eps)));
    const Vec r = splat(rstd[i]);
    for_vectors(
        h, [&](std::int64_t j) { store(out + j, load(row + j) * r * load(weight + j)); },
        [&](std::int64_t j, std::int64_t rest) {
          store_n(out + j, load_n(row + j, rest) * r * load_n(weight + j, rest), rest);
        });
  }
}

void backward(const float* x, const float* weight, const float* rstd, const float* grad_y, std::int64_t m,
              std::int64_t h, float* grad_x, float* grad_weight) noexcept {
  for (std::int64_t i = 0; i < m; ++i) {
    const float *row = x + i * h, *g = grad_y + i * h;
    float* out = grad_x + i * h;
    const Vec r = splat(rstd[i]);
    Sum64 dot;  // sum of g * weight * x
    if (grad_weight == nullptr) {
      for_vectors(
          h, [&](std::int64_t j) { add_product_f64(dot, load(g + j) * load(weight + j), load(row + j)); },
          [&](std::int64_t j, std::int64_t rest) {
            add_product_f64(dot, load_n(g + j, rest) * load_n(weight + j, rest), load_n(row + j, rest));
          });
    } else {
      for_vectors(
          h,
          [&](std::int64_t j) {
            const Vec gx = load(g + j) * load(row + j);
            add_product_f64(dot, gx, load(weight + j));
            store(grad_weight + j, fma(gx, r, load(grad_weight + j)));
          },
          [&](std::int64_t j, std::int64_t rest) {
            const Vec gx = load_n(g + j, rest) * load_n(row + j, rest);
            add_product_f64(dot, gx, load_n(weight + j, rest));
            store_n(grad_weight + j, fma(gx, r, load_n(grad_weight + j, rest)), rest);
          });
    }
    const double r64 = rstd[i];
    const Vec mean = splat(static_cast<float>(total(dot) / static_cast<double>(h) * r64 * r64 * r64));
    for_vectors(
        h,
        [&](std::int64_t j) {
          store(out + j, fnma(load(row + j), mean, load(g + j) * load(weight + j) * r));
        },
        [&](std::int64_t j, std::int64_t rest) {
          store_n(out + j,
                  fnma(load_n(row + j, rest), mean, load_n(g + j, rest) * load_n(weight + j, rest) * r),
                  rest);
        });
  }
}

}  // namespace
}  // namespace crumb::kernels
