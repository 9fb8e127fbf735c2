// Whether AVX-512 intrinsics do what they are defined to do: true of the processor, so that the definitions
// here are right, and of their emulation (src/kernels/simd/emulated_avx512.h), whose faults the kernels' own
// tests would not all see.
#include "kernels/intrinsics.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <functional>
#include <map>

#include "base/half.h"
#include "kernels/forced_isa.h"

namespace crumb::kernels::test {
namespace {

struct Block {
  alignas(64) unsigned char bytes[64] = {};
  template <class T>
  T at(int i) const {
    T value;
    std::memcpy(&value, bytes + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    return value;
  }
  template <class T>
  void set(int i, T value) {
    std::memcpy(bytes + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
  }
};
using i8 = std::int8_t;
using u8 = std::uint8_t;
using i16 = std::int16_t;
using u16 = std::uint16_t;
using i32 = std::int32_t;
using u32 = std::uint32_t;

/// What `out` holds before, and afterwards.
using Definition = std::function<void(const Block& a, const Block& b, const Block& c, Block& out)>;

/// out[i] = f(a[i]), out[i] = f(a[i], b[i]), out[i] = f(a[i], b[i], c[i]) for `lanes` lanes.
template <class In, class F>
Definition one(int lanes, F f) {
  return [=](const Block& a, const Block&, const Block&, Block& out) {
    for (int i = 0; i < lanes; ++i) out.set(i, f(a.at<In>(i)));
  };
}
template <class In, class F>
Definition two(int lanes, F f) {
  return [=](const Block& a, const Block& b, const Block&, Block& out) {
    for (int i = 0; i < lanes; ++i) out.set(i, f(a.at<In>(i), b.at<In>(i)));
  };
}
template <class In, class F>
Definition three(int lanes, F f) {
  return [=](const Block& a, const Block& b, const Block& c, Block& out) {
    for (int i = 0; i < lanes; ++i) out.set(i, f(a.at<In>(i), b.at<In>(i), c.at<In>(i)));
  };
}
/// Lanes of a where the mask c has a bit; `no(i)` elsewhere.
template <class T, class No>
Definition masked(int lanes, No no) {
  return [=](const Block& a, const Block& b, const Block& c, Block& out) {
    for (int i = 0; i < lanes; ++i) out.set<T>(i, c.at<u32>(0) >> i & 1 ? a.at<T>(i) : no(b, out, i));
  };
}
template <class F>
Definition mask_of(F f) {
  return [=](const Block& a, const Block& b, const Block&, Block& out) {
    u16 mask = 0;
    for (int i = 0; i < 16; ++i) mask = static_cast<u16>(mask | f(a.at<float>(i), b.at<float>(i)) << i);
    out.set(0, mask);
  };
}
/// out lane i is lane from(i) of a, or of b from `lanes` on.
template <class T, class From>
Definition moved(int lanes, From from) {
  return [=](const Block& a, const Block& b, const Block&, Block& out) {
    for (int i = 0; i < lanes; ++i) out.set(i, from(i) < lanes ? a.at<T>(from(i)) : b.at<T>(from(i) - lanes));
  };
}
/// The halves with each other, until one lane is left.
template <class T, class F>
Definition reduced(int lanes, F f) {
  return [=](const Block& a, const Block&, const Block&, Block& out) {
    std::vector<T> x;
    for (int i = 0; i < 16; ++i)
      x.push_back(
          static_cast<T>(i < lanes ? a.at<std::conditional_t<std::is_same_v<T, double>, float, T>>(i) : T{}));
    for (int n = lanes / 2; n > 0; n /= 2) {
      for (int i = 0; i < n; ++i)
        x[static_cast<std::size_t>(i)] =
            f(x[static_cast<std::size_t>(i)], x[static_cast<std::size_t>(i + n)]);
    }
    out.set(0, x[0]);
  };
}
float flushed(float x) {
  return std::abs(x) < FLT_MIN ? std::copysign(0.0f, x) : x;
}
/// out = a + the four products of each lane of b and of the quad lane(i) of c.
template <class Lane>
Definition dot_of_bytes(int lanes, Lane lane) {
  return [=](const Block& a, const Block& b, const Block& c, Block& out) {
    for (int i = 0; i < lanes; ++i) {
      u32 sum = a.at<u32>(i);
      for (int j = 0; j < 4; ++j) sum += static_cast<u32>(b.at<u8>(4 * i + j) * c.at<i8>(4 * lane(i) + j));
      out.set(i, sum);
    }
  };
}

const std::map<std::string, Definition>& definitions() {
  const auto zero = [](const Block&, const Block&, int) { return 0; };
  const auto add = [](auto x, auto y) { return x + y; };
  const auto low = [](int part) {  // unpack: pairs of lanes of each quarter
    return [=](int i) { return i / 4 * 4 + part + i % 4 / 2 + i % 2 * 16; };
  };
  const auto pair = [](int which) { return [=](int i) { return i / 2 * 2 + which + i % 2 * 8; }; };
  const auto quarters = [](int which) {
    return [=](int i) { return (which >> (i / 4 * 2) & 3) * 4 + i % 4 + (i < 8 ? 0 : 16); };
  };
  static const std::map<std::string, Definition> kAll = {
      {"maskz_loadu_ps", masked<u32>(16, zero)},
      {"mask_storeu_ps", masked<u32>(16, [](const Block&, const Block& out, int i) { return out.at<u32>(i); })},
      {"mask_storeu_epi32", masked<u32>(16, [](const Block&, const Block& out, int i) { return out.at<u32>(i); })},
      {"maskz_loadu_16_words", masked<u16>(16, zero)},
      {"maskz_loadu_32_words", masked<u16>(32, zero)},
      {"mask_storeu_16_words", masked<u16>(16, [](const Block&, const Block& out, int i) { return out.at<u16>(i); })},
      {"mask_blend_ps",
       [](const Block& a, const Block& b, const Block& c, Block& out) {
         for (int i = 0; i < 16; ++i) out.set(i, (c.at<u16>(0) >> i & 1 ? b : a).at<u32>(i));
       }},
      {"mask_mov_epi32",
       [](const Block& a, const Block& b, const Block& c, Block& out) {
         for (int i = 0; i < 16; ++i) out.set(i, (c.at<u16>(0) >> i & 1 ? b : a).at<u32>(i));
       }},
      {"cmp_eq", mask_of([](float x, float y) { return x == y; })},
      {"cmp_lt", mask_of([](float x, float y) { return x < y; })},
      {"cmp_unord", mask_of([](float x, float y) { return std::isnan(x) || std::isnan(y); })},
      // With a NaN, or zeros of either sign, the second.
      {"max_ps", two<float>(16, [](float x, float y) { return x > y ? x : y; })},
      {"min_ps", two<float>(16, [](float x, float y) { return x < y ? x : y; })},
      {"max_epi32", two<i32>(16, [](i32 x, i32 y) { return std::max(x, y); })},
      {"fmadd_ps", three<float>(16, [](float x, float y, float z) { return std::fma(x, y, z); })},
      {"fnmadd_ps", three<float>(16, [](float x, float y, float z) { return std::fma(-x, y, z); })},
      {"fmadd_pd", three<double>(8, [](double x, double y, double z) { return std::fma(x, y, z); })},
      {"abs_ps", one<u32>(16, [](u32 x) { return x & 0x7fffffff; })},
      {"sqrt_ps", one<float>(16, [](float x) { return std::sqrt(x); })},
      {"roundscale_ps", one<float>(16, [](float x) { return std::nearbyint(x); })},
      {"scalef_ps", two<float>(16,
                               [](float x, float n) {  // exact in f64, then rounded once
                                 const double power = std::clamp(std::floor(static_cast<double>(n)), -500.0, 500.0);
                                 return static_cast<float>(x * std::exp2(power));
                               })},
      {"add_epi32", two<u32>(16, add)},
      {"madd_epi16",
       [](const Block& a, const Block& b, const Block&, Block& out) {
         for (int i = 0; i < 16; ++i)
           out.set(i, static_cast<u32>(a.at<i16>(2 * i) * b.at<i16>(2 * i)) +
                          static_cast<u32>(a.at<i16>(2 * i + 1) * b.at<i16>(2 * i + 1)));
       }},
      {"srai_epi32", one<i32>(16, [](i32 x) { return x >> 2; })},
      {"srli_epi32", one<u32>(16, [](u32 x) { return x >> 16; })},
      {"slli_epi32", one<u32>(16, [](u32 x) { return x << 16; })},
      {"srli_epi16", one<u16>(32, [](u16 x) { return static_cast<u16>(x >> 6); })},
      {"slli_epi16", one<u16>(32, [](u16 x) { return static_cast<u16>(x << 2); })},
      {"srlv_epi32", two<u32>(16, [](u32 x, u32 by) { return by < 32 ? x >> by : 0; })},
      {"ternarylogic_f8", three<u32>(16, [](u32 x, u32 y, u32 z) { return x | (y & z); })},
      {"cvtepi32_ps", one<i32>(16, [](i32 x) { return static_cast<float>(x); })},
      {"cvtps_epi32", one<float>(16,
                                 [](float x) {
                                   const double whole = std::nearbyint(x);
                                   return whole >= -0x1p31 && whole < 0x1p31
                                              ? static_cast<i32>(whole)
                                              : std::numeric_limits<i32>::min();
                                 })},
      {"cvtps_pd", one<float>(8, [](float x) { return static_cast<double>(x); })},
      {"cvtph_ps", one<u16>(16, [](u16 x) { return f16_to_float(x); })},
      {"cvtps_ph", one<float>(16, [](float x) {  // a NaN keeps its upper bits
         const u32 bits = std::bit_cast<u32>(x);
         return std::isnan(x) ? static_cast<u16>((bits >> 16 & 0x8000) | 0x7e00 | (bits >> 13 & 0x3ff))
                              : float_to_f16(x);
       })},
      {"cvtepi8_epi32", one<i8>(16, [](i8 x) { return i32{x}; })},
      {"cvtepu8_epi32", one<u8>(16, [](u8 x) { return i32{x}; })},
      {"cvtepu16_epi32", one<u16>(16, [](u16 x) { return i32{x}; })},
      {"cvtepi32_epi16", one<u32>(16, [](u32 x) { return static_cast<u16>(x); })},
      {"cvtepi32_epi8", one<u32>(16, [](u32 x) { return static_cast<u8>(x); })},
      {"cvtsepi32_epi8", one<i32>(16, [](i32 x) { return static_cast<i8>(std::clamp(x, -128, 127)); })},
      {"extractf32x8_ps",
       [](const Block& a, const Block&, const Block&, Block& out) {
         for (int i = 0; i < 8; ++i) out.set(i, a.at<u32>(i + 8));
       }},
      {"inserti64x4", moved<u32>(16, [](int i) { return i < 8 ? i : i + 8; })},
      {"shuffle_f32x4_88", moved<u32>(16, quarters(0x88))},
      {"shuffle_f32x4_dd", moved<u32>(16, quarters(0xdd))},
      {"unpacklo_ps", moved<u32>(16, low(0))},
      {"unpackhi_ps", moved<u32>(16, low(2))},
      {"unpacklo_pd", moved<std::uint64_t>(8, pair(0))},
      {"unpackhi_pd", moved<std::uint64_t>(8, pair(1))},
      {"reduce_add_ps", reduced<float>(16, add)},
      {"reduce_add_pd", reduced<double>(8, add)},
      {"reduce_add_epi32", reduced<u32>(16, add)},
      {"reduce_max_epi32", reduced<i32>(16, [](i32 x, i32 y) { return std::max(x, y); })},
      {"reduce_max_ps", reduced<float>(16, [](float x, float y) { return std::max(x, y); })},
      {"reduce_min_ps", reduced<float>(16, [](float x, float y) { return std::min(x, y); })},
      {"dpbusd", dot_of_bytes(16, [](int i) { return i; })},
      {"dpbusd_quad", dot_of_bytes(16, [](int) { return 0; })},
      {"dpbusd_quad_half", dot_of_bytes(8, [](int) { return 0; })},
      // The odd pair first; denormals count, and come out, as zero.
      {"dpbf16_ps",
       [](const Block& a, const Block& b, const Block& c, Block& out) {
         for (int i = 0; i < 16; ++i) {
           float sum = flushed(a.at<float>(i));
           for (const int j : {2 * i + 1, 2 * i}) {
             sum = flushed(std::fma(flushed(bf16_to_float(b.at<u16>(j))),
                                    flushed(bf16_to_float(c.at<u16>(j))), sum));
           }
           out.set(i, sum);
         }
       }},
  };
  return kAll;
}

constexpr int kKinds = 5;

/// Bits at random; numbers near each other with ties; numbers that are special; small integers; all ones.
Block random_block(SplitMix64& rng, int kind) {
  static const float kSpecial[] = {0.0f,          -0.0f,       0.5f,     -1.5f,    2.5f,     1e-40f,
                                   -1e-45f,       FLT_MIN,     FLT_MAX,  -FLT_MAX, 1e30f,    0x1p31f,
                                   -0x1p31f,      65520.0f,    0x1p-25f, 3e-8f,    INFINITY, -INFINITY,
                                   std::nanf(""), 16777215.0f, 127.0f,   -126.0f,  -150.0f,  1e10f};
  Block block;
  for (int i = 0; i < 16; ++i) {
    const std::uint64_t bits = rng.next();
    switch (kind) {
      case 0:
        block.set(i, static_cast<u32>(bits));
        break;
      case 1:
        block.set(i, static_cast<float>(static_cast<int>(bits % 4001) - 2000) * 0.25f);
        break;
      case 2:
        block.set(i, kSpecial[bits % std::size(kSpecial)]);
        break;
      case 3:
        block.set(i, static_cast<i32>(bits % 601) - 300);
        break;
      default:
        block.set(i, bits % 3 == 0 ? 0x80808080u : bits % 3 == 1 ? 0x7f7f7f7fu : 0xffffffffu);
    }
  }
  return block;
}

/// Lane by lane of `T`: the same bits, or NaN and NaN.
template <class T>
bool same_lanes(const Block& x, const Block& y) {
  for (int i = 0; i < static_cast<int>(64 / sizeof(T)); ++i) {
    const T a = x.at<T>(i), b = y.at<T>(i);
    if (std::memcmp(&a, &b, sizeof(T)) != 0 && !(std::isnan(a) && std::isnan(b))) return false;
  }
  return true;
}

bool is_number(float x) {
  return std::isfinite(x) && x != 0;
}

void check(const Intrinsics& intrinsics) {
  for (int k = 0; k < intrinsics.count; ++k) {
    const Intrinsic& intrinsic = intrinsics.list[k];
    const std::string name = intrinsic.name;
    SCOPED_TRACE(name);
    ASSERT_EQ(definitions().count(name), 1u);
    const Definition& definition = definitions().at(name);
    const bool doubles = name.ends_with("_pd") && !name.starts_with("unpack"),
               floats = !doubles && (name.ends_with("_ps") && !name.starts_with("mask"));
    SplitMix64 rng(20 + static_cast<std::uint64_t>(k));
    for (int trial = 0; trial < 400; ++trial) {
      Block a = random_block(rng, trial % kKinds), b = random_block(rng, trial / kKinds % kKinds),
            c = random_block(rng, trial / kKinds / kKinds % kKinds), wanted;
      if (name.starts_with("mask")) c = random_block(rng, 0);
      for (int i = 0; i < 16; ++i) {
        if (name == "scalef_ps" && !std::isfinite(b.at<float>(i))) b.set(i, 1.0f);  // no kernel's exponent
        // A sum just below the least normal number is zero or not by how a processor sees tininess.
        if (name == "dpbf16_ps" && std::abs(a.at<float>(i)) == FLT_MIN) a.set(i, 1.0f);
      }
      if (name.starts_with("reduce") && (floats || doubles)) {  // the order of halves is ours to choose only
        for (int i = 0; i < 16; ++i) {                          // where it does not change what comes out
          const float x = a.at<float>(i);
          a.set(i, is_number(x) && std::abs(x) < 1e30f ? std::trunc(std::fmod(x, 4096.0f)) + 1.0f : 3.0f);
        }
      }
      if (name == "reduce_add_epi32") {  // GCC adds in int, which a sanitizer does not let overflow
        for (int i = 0; i < 16; ++i) a.set(i, a.at<i32>(i) / 16);
      }
      Block actual = wanted = random_block(rng, 0);
      definition(a, b, c, wanted);
      intrinsic.run(a.bytes, b.bytes, c.bytes, actual.bytes);
      const bool same = doubles  ? same_lanes<double>(actual, wanted)
                        : floats ? same_lanes<float>(actual, wanted)
                                 : std::memcmp(actual.bytes, wanted.bytes, 64) == 0;
      if (same) continue;
      for (int i = 0; i < 16; ++i) {
        if (actual.at<u32>(i) == wanted.at<u32>(i)) continue;
        ADD_FAILURE() << "trial " << trial << " lane " << i << std::hex << ": " << a.at<u32>(i) << " "
                      << b.at<u32>(i) << " " << c.at<u32>(i) << " gave " << actual.at<u32>(i) << ", wanted "
                      << wanted.at<u32>(i);
      }
      break;
    }
  }
}

/// Masked reads and writes in front of memory that may not be touched.
void check_masked_at_the_end_of_memory(const Intrinsics& intrinsics) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  auto* const memory = static_cast<unsigned char*>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(static_cast<void*>(memory), MAP_FAILED);
  ASSERT_EQ(mprotect(memory + page, page, PROT_NONE), 0);
  for (int k = 0; k < intrinsics.count; ++k) {
    const Intrinsic& intrinsic = intrinsics.list[k];
    const std::string name = intrinsic.name;
    const bool loads = name.starts_with("maskz_loadu"), stores = name.starts_with("mask_storeu");
    if (!loads && !stores) continue;
    SCOPED_TRACE(name);
    const int lane = name.ends_with("words") ? 2 : 4;
    for (int lanes = 0; lanes <= 15; ++lanes) {
      unsigned char* const end = memory + page - lanes * lane;
      Block c, other;
      c.set(0, (1u << lanes) - 1);
      intrinsic.run(loads ? end : other.bytes, nullptr, c.bytes, stores ? end : other.bytes);
    }
  }
  munmap(memory, 2 * page);
}

class Avx512Intrinsics : public ForcedIsa {};
CRUMB_FOR_EACH_ISA(Avx512Intrinsics, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16);

Intrinsics intrinsics_of(Isa isa) {
  return isa == Isa::kAvx512       ? intrinsics_avx512()
         : isa == Isa::kAvx512Vnni ? intrinsics_avx512vnni()
                                   : intrinsics_avx512bf16();
}

TEST_P(Avx512Intrinsics, DoWhatTheyAreDefinedToDo) {
  check(intrinsics_of(GetParam()));
}

TEST_P(Avx512Intrinsics, TouchNothingOutsideOfTheirMask) {
  check_masked_at_the_end_of_memory(intrinsics_of(GetParam()));
}

}  // namespace
}  // namespace crumb::kernels::test
