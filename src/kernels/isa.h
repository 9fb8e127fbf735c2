// Instruction sets that a kernel variant may need, and which of them this process may use.
#pragma once
#include <string>
#include <string_view>

namespace crumb::kernels {

/// In rising order: CRUMB_FORCE_ISA=x and set_isa_limit(x) allow everything up to x. No processor is assumed
/// to have all that lies below its best one: each is asked for by itself.
enum class Isa {
  kRef,         // plain C++, compiled for the baseline processor
  kAvx2,        // AVX2, FMA, F16C
  kAvx512,      // AVX-512 F, BW, DQ, VL
  kAvx512Vnni,  // + vpdpbusd
  kAvx512Bf16,  // + vdpbf16ps, of AVX-512 only: no VNNI is promised
  kAmx,         // + AMX tiles with bf16 and int8 and VNNI, permitted by the kernel of the operating system
};

/// "ref", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx".
std::string_view to_string(Isa isa) noexcept;

/// What processor and operating system offer (cpuid, xgetbv, arch_prctl for AMX), whatever the limit says.
bool machine_has(Isa isa) noexcept;

/// Whether this program's variants for the set are compiled for AVX2 with the set in software: in
/// tests/emulated, where machine_has() is then true for a machine with AVX2.
bool emulated(Isa isa) noexcept;

/// machine_has(isa) and isa <= isa_limit().
/// Throws through isa_limit().
bool usable(Isa isa);

/// The highest set that may be chosen: what set_isa_limit said, else the environment's CRUMB_FORCE_ISA, else
/// kAmx. Throws InvalidArgument for an unknown name in CRUMB_FORCE_ISA and Unsupported for one that this
/// machine lacks, with the list of the usable.
Isa isa_limit();
void set_isa_limit(Isa limit) noexcept;

/// "avx512_bf16, avx512_vnni, avx512, avx2, ref": what the machine has, best first.
std::string machine_isas();

}  // namespace crumb::kernels
