// The steps of fake_quant_ref.cc, kLanes weights at a time. Included by variant files after a vec_*.h.
#pragma once
#include "kernels/fake_quant.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

constexpr float kMinScale = 1e-4f, kMaxScale = 1e4f;  // quant/affine.h; the tests compare with it

struct Group {
  Vec s, z, max_code;
};

inline Group group_of(const FakeQuantArgs& a, std::int64_t i) {
  return {at_most(at_least(splat(a.scale[i]), splat(kMinScale)), splat(kMaxScale)),
          at_most(at_least(round_even(splat(a.zero_point[i])), splat(a.zero_low)), splat(a.zero_high)),
          splat(a.max_code)};
}

inline Vec w_hat_of(Vec w, const Group& g) {
  const Vec code = at_most(at_least(round_even(w / g.s) + g.z, zero()), g.max_code);
  return (code - g.z) * g.s;
}

void forward(const FakeQuantArgs& a, std::int64_t begin, std::int64_t end, float* w_hat) noexcept {
  for (std::int64_t i = begin; i < end; ++i) {
    const Group g = group_of(a, i);
    const float* w = a.w + i * a.group_size;
    float* out = w_hat + i * a.group_size;
    for_vectors(
        a.group_size, [&](std::int64_t j) { store(out + j, w_hat_of(load(w + j), g)); },
        [&](std::int64_t j, std::int64_t rest) { store_n(out + j, w_hat_of(load_n(w + j, rest), g), rest); });
  }
}

void forward_bf16(const FakeQuantArgs& a, std::int64_t begin, std::int64_t end,
                  std::uint16_t* w_hat) noexcept {
  for (std::int64_t i = begin; i < end; ++i) {
    const Group g = group_of(a, i);
    const float* w = a.w + i * a.group_size;
    std::uint16_t* out = w_hat + i * a.group_size;
    for_vectors(
        a.group_size, [&](std::int64_t j) { store_bf16(out + j, w_hat_of(load(w + j), g)); },
        [&](std::int64_t j, std::int64_t rest) {
          store_bf16_n(out + j, w_hat_of(load_n(w + j, rest), g), rest);
        });
  }
}

struct Sums {
  Vec s = zero(), z = zero();
};

// One vector of Q3; returns grad_w. Lanes with grad 0 add nothing, so zeros may fill a tail.
inline Vec backward_step(Vec w, Vec grad, const Group& g, Sums& sums) {
  const Vec t = w / g.s, r = round_even(t), u = r + g.z, q = at_most(at_least(u, zero()), g.max_code);
  const Mask inside = equal(u, q);
  sums.s = fma(grad, choose(inside, r - t, q - g.z), sums.s);
  sums.z = sums.z - choose(inside, zero(), grad);
  return choose(inside, grad, zero());
}

void backward(const FakeQuantArgs& a, std::int64_t begin, std::int64_t end, const float* grad_w_hat,
              float* grad_w, float* grad_scale, float* grad_zero_point) noexcept {
  for (std::int64_t i = begin; i < end; ++i) {
    const Group g = group_of(a, i);
    const std::int64_t first = i * a.group_size;
    const float *w = a.w + first, *in = grad_w_hat + first;
    float* out = grad_w + first;
    Sums sums;
    for_vectors(
        a.group_size,
        [&](std::int64_t j) { store(out + j, backward_step(load(w + j), load(in + j), g, sums)); },
        [&](std::int64_t j, std::int64_t rest) {
          store_n(out + j, backward_step(load_n(w + j, rest), load_n(in + j, rest), g, sums), rest);
        });
    grad_scale[i] = sum_lanes(sums.s);
    if (grad_zero_point != nullptr) grad_zero_point[i] = sum_lanes(sums.z * g.s);
  }
}

}  // namespace
}  // namespace crumb::kernels
