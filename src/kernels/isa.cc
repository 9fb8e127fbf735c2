#include "kernels/isa.h"

#include <atomic>
#include <cstdlib>

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

namespace crumb::kernels {
namespace {

constexpr Isa kAll[] = {Isa::kAmx, Isa::kAvx512Bf16, Isa::kAvx512Vnni, Isa::kAvx512, Isa::kAvx2, Isa::kRef};
constexpr int kUnset = -1;
#ifdef CRUMB_EMULATE_AVX512
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif
std::atomic<int> limit_by_call{kUnset};

struct Features {
  bool avx2 = false, avx512 = false, avx512_vnni = false, avx512_bf16 = false, amx = false;
};

// Linux hands out AMX state on request only: arch_prctl(ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA =
// 18).
bool amx_permitted() {
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

Features detect() {
  Features f;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return f;
  const bool fma = c >> 12 & 1, osxsave = c >> 27 & 1, f16c = c >> 29 & 1;
  if (!osxsave) return f;
  unsigned state = 0, state_high = 0;
  __asm__("xgetbv" : "=a"(state), "=d"(state_high) : "c"(0));
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return f;
  f.avx2 = ymm && fma && f16c && (b >> 5 & 1);
  if (kEmulated) return {f.avx2, f.avx2, f.avx2, f.avx2, f.avx2};
  f.avx512 =
      f.avx2 && zmm && (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1);  // F, DQ, BW, VL
  f.avx512_vnni = f.avx512 && (c >> 11 & 1);
  const bool amx_bf16 = d >> 22 & 1, amx_tile = d >> 24 & 1, amx_int8 = d >> 25 & 1;
  unsigned a1 = 0;
  if (__get_cpuid_count(7, 1, &a1, &b, &c, &d) != 0) f.avx512_bf16 = f.avx512 && (a1 >> 5 & 1);
  f.amx = f.avx512_bf16 && f.avx512_vnni && amx_bf16 && amx_int8 && amx_tile && tiles && amx_permitted();
  return f;
}

Isa limit_from_environment() {
  const char* word = std::getenv("CRUMB_FORCE_ISA");
  if (word == nullptr || *word == '\0') return Isa::kAmx;
  for (const Isa isa : kAll) {
    if (to_string(isa) != word) continue;
    if (!machine_has(isa)) {
      fail(ErrorKind::kUnsupported, "kernels.isa", "CRUMB_FORCE_ISA='", word,
           "': this machine lacks it; available: ", machine_isas(), "; set one of these or unset it");
    }
    return isa;
  }
  fail(ErrorKind::kInvalidArgument, "kernels.isa", "CRUMB_FORCE_ISA='", word,
       "': no such instruction set; available: ", machine_isas(), "; set one of these or unset it");
}

}  // namespace

std::string_view to_string(Isa isa) noexcept {
  switch (isa) {
    case Isa::kRef:
      return "ref";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Vnni:
      return "avx512_vnni";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "?";
}

bool machine_has(Isa isa) noexcept {
  static const Features features = detect();
  switch (isa) {
    case Isa::kRef:
      return true;
    case Isa::kAvx2:
      return features.avx2;
    case Isa::kAvx512:
      return features.avx512;
    case Isa::kAvx512Vnni:
      return features.avx512_vnni;
    case Isa::kAvx512Bf16:
      return features.avx512_bf16;
    case Isa::kAmx:
      return features.amx;
  }
  return false;
}

bool emulated(Isa isa) noexcept {
  return kEmulated && isa > Isa::kAvx2;
}

Isa isa_limit() {
  const int by_call = limit_by_call.load(std::memory_order_relaxed);
  if (by_call != kUnset) return static_cast<Isa>(by_call);
  static const Isa from_environment = limit_from_environment();
  return from_environment;
}

void set_isa_limit(Isa limit) noexcept {
  limit_by_call.store(static_cast<int>(limit), std::memory_order_relaxed);
}

bool usable(Isa isa) {
  return isa <= isa_limit() && machine_has(isa);
}

std::string machine_isas() {
  std::string text;
  for (const Isa isa : kAll) {
    if (!machine_has(isa)) continue;
    if (!text.empty()) text += ", ";
    text += to_string(isa);
  }
  return text;
}

}  // namespace crumb::kernels
