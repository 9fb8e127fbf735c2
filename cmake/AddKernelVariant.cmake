# The instruction set is in the file's name, and only such files are compiled for it: an inline function shared with generic
# code could otherwise be linked in its wide version and fault on an older machine.
# Contraction is off in them: a fused multiply-add is written where it is meant, and everything else rounds as the reference does.
set(CRUMB_FLAGS_avx2 -mavx2 -mfma -mf16c)
# GCC 12's AVX-512 intrinsics warn of their own undefined pass-through operands (GCC bug 105593).
set(CRUMB_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512 -Wno-uninitialized
    -Wno-maybe-uninitialized)
set(CRUMB_FLAGS_avx512vnni ${CRUMB_FLAGS_avx512} -mavx512vnni)
set(CRUMB_FLAGS_avx512bf16 ${CRUMB_FLAGS_avx512} -mavx512bf16)
set(CRUMB_FLAGS_amx ${CRUMB_FLAGS_avx512} -mavx512bf16 -mavx512vnni -mamx-tile -mamx-bf16 -mamx-int8)
# The low-bit variants are unrolled by hand: variable tracking (-g) takes GCC 12 a minute a file, redzones around their register arrays ten.
# Sanitizers still watch what they read and write outside the stack.
set(CRUMB_LOWBIT_FLAGS -fno-var-tracking)
if(CRUMB_SANITIZE)
  list(APPEND CRUMB_LOWBIT_FLAGS --param=asan-stack=0 -fno-sanitize=null)
endif()
function(crumb_kernel_variant_flags)
  foreach(source ${ARGN})
    foreach(isa avx2 avx512 avx512vnni avx512bf16 amx)
      if(source MATCHES "_${isa}\\.cc$")
        set(flags -O3 -ffp-contract=off ${CRUMB_FLAGS_${isa}})
        if(source MATCHES "/lowbit_[^/]*$")
          list(APPEND flags ${CRUMB_LOWBIT_FLAGS})
        endif()
        set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "${flags}")
      endif()
    endforeach()
  endforeach()
endfunction()
