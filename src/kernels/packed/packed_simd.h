// packed_ref.cc, kLanes codes at a time. A vector must lie in one group; groups that are no multiple of
// kLanes go code by code.
#pragma once
#include "kernels/packed.h"
#include "kernels/packed/code_at.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

// Calls body.vector(j, codes) and body.one(j, code) over a group's codes, j counting from the group's first
// weight.
template <int bits, class Body>
inline void for_codes(const std::uint32_t* row, std::int64_t first, std::int64_t count, const Body& body) {
  if (count % kLanes == 0) {  // then `first` is a multiple of 8 as well and lies at a byte
    const unsigned char* bytes = reinterpret_cast<const unsigned char*>(row) + first * bits / 8;
    for (std::int64_t j = 0; j < count; j += kLanes) body.vector(j, load_codes<bits>(bytes + j * bits / 8));
  } else {
    for (std::int64_t j = 0; j < count; ++j) body.one(j, static_cast<float>(code_at(row, first + j, bits)));
  }
}

struct ToFloat {
  float* out;
  float zero_point, scale;
  void vector(std::int64_t j, Vec code) const { store(out + j, (code - splat(zero_point)) * splat(scale)); }
  void one(std::int64_t j, float code) const { out[j] = (code - zero_point) * scale; }
};

struct ToBf16 {
  std::uint16_t* out;
  float zero_point, scale;
  void vector(std::int64_t j, Vec code) const {
    store_bf16(out + j, (code - splat(zero_point)) * splat(scale));
  }
  void one(std::int64_t j, float code) const { store_bf16_n(out + j, splat((code - zero_point) * scale), 1); }
};

template <class Body, int bits, class Out>
void dequantize_rows(const PackedArgs& a, std::int64_t begin, std::int64_t end, Out* w_hat) {
  const std::int64_t groups = a.k / a.group_size, words = a.k * bits / 32;
  for (std::int64_t n = begin; n < end; ++n) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const Body body{w_hat + n * a.k + g * a.group_size, static_cast<float>(a.zero_points[n * groups + g]),
                      a.scales[n * groups + g]};
      for_codes<bits>(a.words + n * words, g * a.group_size, a.group_size, body);
    }
  }
}

template <class Body, class Out>
void dequantize_any(const PackedArgs& a, std::int64_t begin, std::int64_t end, Out* w_hat) {
  switch (a.bits) {
    case 2:
      return dequantize_rows<Body, 2>(a, begin, end, w_hat);
    case 3:
      return dequantize_rows<Body, 3>(a, begin, end, w_hat);
    case 4:
      return dequantize_rows<Body, 4>(a, begin, end, w_hat);
    default:
      return dequantize_rows<Body, 8>(a, begin, end, w_hat);
  }
}

void dequantize(const PackedArgs& a, std::int64_t begin, std::int64_t end, float* w_hat) noexcept {
  dequantize_any<ToFloat>(a, begin, end, w_hat);
}
void dequantize_bf16(const PackedArgs& a, std::int64_t begin, std::int64_t end,
                     std::uint16_t* w_hat) noexcept {
  dequantize_any<ToBf16>(a, begin, end, w_hat);
}

struct Weighted {
  const float* grad;
  float zero_point;
  Vec* sum;
  float* rest;
  void vector(std::int64_t j, Vec code) const { *sum = fma(code - splat(zero_point), load(grad + j), *sum); }
  void one(std::int64_t j, float code) const { *rest += (code - zero_point) * grad[j]; }
};

template <int bits>
void scale_gradient_rows(const PackedArgs& a, std::int64_t begin, std::int64_t end, const float* grad_w_hat,
                         float* grad_scale) {
  const std::int64_t groups = a.k / a.group_size, words = a.k * bits / 32;
  for (std::int64_t n = begin; n < end; ++n) {
    for (std::int64_t g = 0; g < groups; ++g) {
      Vec sum = zero();
      float rest = 0;
      for_codes<bits>(a.words + n * words, g * a.group_size, a.group_size,
                      Weighted{grad_w_hat + n * a.k + g * a.group_size,
                               static_cast<float>(a.zero_points[n * groups + g]), &sum, &rest});
      grad_scale[n * groups + g] = sum_lanes(sum) + rest;
    }
  }
}

void scale_gradient(const PackedArgs& a, std::int64_t begin, std::int64_t end, const float* grad_w_hat,
                    float* grad_scale) noexcept {
  switch (a.bits) {
    case 2:
      return scale_gradient_rows<2>(a, begin, end, grad_w_hat, grad_scale);
    case 3:
      return scale_gradient_rows<3>(a, begin, end, grad_w_hat, grad_scale);
    case 4:
      return scale_gradient_rows<4>(a, begin, end, grad_w_hat, grad_scale);
    default:
      return scale_gradient_rows<8>(a, begin, end, grad_w_hat, grad_scale);
  }
}

}  // namespace
}  // namespace crumb::kernels
