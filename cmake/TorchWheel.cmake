# Imported targets for the libtorch inside the PyPI `torch` wheel, unpacked under .deps/torch by scripts/setup.sh. Neither Python
# nor find_package(Torch) is asked: the wheel's own CMake config wants a CUDA toolkit even for a CPU program.
#
#   torch_wheel::cpu     headers, libc10, libtorch_cpu (MKL, oneDNN and gloo are inside)
#   torch_wheel::openmp  the wheel's libgomp, so that the process has one OpenMP runtime
#   torch_wheel::cuda    + libc10_cuda, libtorch_cuda; only with CRUMB_CUDA
#
# libtorch_cpu.so itself needs libcupti and libcudart; it finds them through its own RPATH in the neighboring nvidia/ folder.
set(CRUMB_TORCH_DIR "${CMAKE_SOURCE_DIR}/.deps/torch/torch" CACHE PATH "The torch/ folder of the unpacked wheel")
if(NOT EXISTS "${CRUMB_TORCH_DIR}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "[cmake.torch] ${CRUMB_TORCH_DIR}: no lib/libtorch_cpu.so; want the unpacked torch 2.11.0 wheel; "
                      "run scripts/setup.sh, or configure with -DCRUMB_TORCH=OFF")
endif()
file(STRINGS "${CRUMB_TORCH_DIR}/version.py" _version REGEX "^__version__ *=")
string(REGEX MATCH "[0-9]+[.][0-9]+[.][0-9]+" CRUMB_TORCH_VERSION "${_version}")
if(CRUMB_TORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "[cmake.torch] ${CRUMB_TORCH_DIR}: found torch ${CRUMB_TORCH_VERSION}; want 2.11 or newer; run scripts/setup.sh")
endif()
message(STATUS "torch ${CRUMB_TORCH_VERSION}: ${CRUMB_TORCH_DIR}")

function(_crumb_torch_library target file)
  add_library(torch_wheel::${target} SHARED IMPORTED GLOBAL)
  set_target_properties(torch_wheel::${target} PROPERTIES IMPORTED_LOCATION "${CRUMB_TORCH_DIR}/lib/${file}")
endfunction()

_crumb_torch_library(c10 libc10.so)
_crumb_torch_library(cpu libtorch_cpu.so)
target_include_directories(torch_wheel::cpu SYSTEM INTERFACE "${CRUMB_TORCH_DIR}/include")
target_link_libraries(torch_wheel::cpu INTERFACE torch_wheel::c10)
_crumb_torch_library(openmp libgomp.so.1)
target_compile_options(torch_wheel::openmp INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
target_link_libraries(torch_wheel::cpu INTERFACE torch_wheel::openmp)

if(CRUMB_CUDA)
  find_package(CUDAToolkit REQUIRED)
  _crumb_torch_library(c10_cuda libc10_cuda.so)
  _crumb_torch_library(cuda libtorch_cuda.so)
  target_include_directories(torch_wheel::cuda SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(torch_wheel::cuda INTERFACE torch_wheel::cpu torch_wheel::c10_cuda)
  # libtorch_cuda registers itself when loaded; no symbol of it is named here, so a linker may not drop it.
  target_link_options(torch_wheel::cuda INTERFACE -Wl,--no-as-needed)
endif()
