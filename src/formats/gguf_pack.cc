#include "formats/gguf_pack.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "base/parallel_for.h"
#include "formats/gguf_blocks.h"
#include "formats/gguf_k_search.h"
#include "formats/gguf_whole.h"
#include "quant/affine.h"

namespace crumb::formats {
namespace {

using quant::QuantizedLinear;

constexpr std::string_view kWhere = "formats.gguf_pack";
constexpr std::int64_t kRowsOfAPart = 4;

/// A block of Q2_0 whose values do not all lie in -1 … 2 times d: for scales of d times 1/16 … 3, of either
/// sign, the nearest codes, and for these codes the scale of least squared error.
void put_nearest_q2_0(const Whole& whole, const WholeType& type, std::byte* out) {
  std::array<std::uint8_t, 64> codes{}, best_codes{};
  double best_gain = -1, best_scale = 0;
  for (int sixteenths = -48; sixteenths <= 48; ++sixteenths) {
    if (sixteenths == 0) continue;
    double product = 0, squares = 0;  // of values and codes, of codes
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const double code = std::clamp(std::nearbyint(whole.values[i] * 16.0 / sixteenths),
                                     static_cast<double>(type.least), static_cast<double>(type.most));
      codes[i] = static_cast<std::uint8_t>(code - type.least);
      product += code * whole.values[i];
      squares += code * code;
    }
    const double gain = squares > 0 ? product * product / squares : 0;  // the error is sum(value^2) - gain
    if (gain <= best_gain) continue;
    best_gain = gain;
    best_scale = squares > 0 ? product / squares : 0;
    best_codes = codes;
  }
  constexpr double kLargestHalf = 65504;
  const double d = std::clamp(best_scale * static_cast<double>(whole.d), -kLargestHalf, kLargestHalf);
  type.put(best_codes.data(), static_cast<float>(d), out);
}

void put_row(const QuantizedLinear& linear, const WholeType& whole, std::int64_t row,
             std::int64_t block_elements, std::int64_t block_bytes, std::byte* out) {
  std::array<std::uint8_t, 256> codes;
  for (std::int64_t column = 0; column < linear.k; column += block_elements, out += block_bytes) {
    const std::optional<Whole> values = read_whole(linear, row, column, block_elements);
    CRUMB_CHECK(values.has_value());  // gguf_fit has seen every block
    const int sign = values->sign(block_elements, whole.least, whole.most);
    if (sign == 0) {
      CRUMB_CHECK(whole.name == "Q2_0");
      put_nearest_q2_0(*values, whole, out);
      continue;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(block_elements); ++i)
      codes[i] = static_cast<std::uint8_t>(sign * values->values[i] - whole.least);
    whole.put(codes.data(), static_cast<float>(sign) * values->d, out);
  }
}

void put_row_q4_1(const QuantizedLinear& linear, std::int64_t row, std::byte* out) {
  const std::int64_t group = linear.spec.group_of(linear.k), groups = linear.k / group;
  for (std::int64_t column = 0; column < linear.k; column += 32, out += 20) {
    const auto at = static_cast<std::size_t>(row * groups + column / group);
    put_q4_1(linear.codes.data() + row * linear.k + column, linear.scales[at],
             -static_cast<float>(linear.zero_points[at]) * linear.scales[at], out);
  }
}

void put_row_f16(const QuantizedLinear& linear, std::int64_t row, std::byte* out) {
  const std::int64_t group = linear.spec.group_of(linear.k), groups = linear.k / group;
  for (std::int64_t i = 0; i < linear.k; ++i) {
    const auto at = static_cast<std::size_t>(row * groups + i / group);
    const int value = linear.codes[static_cast<std::size_t>(row * linear.k + i)] - linear.zero_points[at];
    const std::uint16_t half = float_to_f16(static_cast<float>(value) * linear.scales[at]);
    std::memcpy(out + 2 * i, &half, sizeof half);
  }
}

}  // namespace

std::vector<std::byte> pack_gguf(const QuantizedLinear& linear, const GgufType& type, std::string_view name) {
  quant::check_quantized_linear(linear, name);
  const GgufFit fit = gguf_fit(linear, type);
  if (fit.hold == GgufHold::kNot) fail(ErrorKind::kUnsupported, kWhere, name, ": ", fit.reason);
  const std::int64_t row_bytes = gguf_tensor_bytes(type, linear.k, 1);
  std::vector<std::byte> out(static_cast<std::size_t>(gguf_tensor_bytes(type, linear.k, linear.n)));
  const WholeType* const whole = find_whole(type);
  parallel_for(linear.n, kRowsOfAPart, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::byte* const to = out.data() + row * row_bytes;
      if (whole != nullptr) {
        put_row(linear, *whole, row, type.block_elements, type.block_bytes, to);
      } else if (type.name == "Q4_1") {
        put_row_q4_1(linear, row, to);
      } else if (type.name == "F16") {
        put_row_f16(linear, row, to);
      } else {
        put_row_k(linear, type, row, to);
      }
    }
  });
  return out;
}

std::vector<std::byte> pack_gguf_floats(std::span<const float> values, std::int64_t k, const GgufType& type,
                                        std::string_view name, std::int64_t first_value) {
  const auto count = static_cast<std::int64_t>(values.size());
  std::vector<std::byte> out(static_cast<std::size_t>(gguf_tensor_bytes(type, k, count / k)));
  CRUMB_CHECK(count % k == 0);
  const auto check = [&](std::size_t i, bool good) {
    if (!good)
      fail(ErrorKind::kNumerics, kWhere, name, ": value ", first_value + static_cast<std::int64_t>(i), " is ",
           values[i], ", which ", type.name, " does not hold; take F32");
  };
  if (type.name == "Q8_0") {
    parallel_for(count / 32, 1024, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t block = begin; block < end; ++block) {
        const auto first = static_cast<std::size_t>(32 * block);
        const auto group = values.subspan(first, 32);
        float largest = 0;
        for (const float w : group) largest = std::max(largest, std::abs(w));
        const float d = round_to_f16(largest / 127);
        check(first, std::isfinite(d));
        std::array<std::uint8_t, 32> codes;
        for (std::size_t i = 0; i < 32; ++i)
          codes[i] = d == 0 ? 128 : static_cast<std::uint8_t>(quant::quantize_one(group[i], d, 128, 255));
        put_q8_0(codes.data(), d, out.data() + block * type.block_bytes);
      }
    });
    return out;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (type.name == "F32") {
      std::memcpy(out.data() + 4 * i, &values[i], 4);
      continue;
    }
    if (type.name != "F16" && type.name != "BF16")
      fail(ErrorKind::kInvalidArgument, kWhere, name, ": type ", type.name,
           " for floats; expected F32, F16, BF16 or Q8_0");
    const std::uint16_t half = type.name == "F16" ? float_to_f16(values[i]) : float_to_bf16(values[i]);
    check(i, std::isfinite(type.name == "F16" ? f16_to_float(half) : bf16_to_float(half)));
    std::memcpy(out.data() + 2 * i, &half, 2);
  }
  return out;
}

}  // namespace crumb::formats
