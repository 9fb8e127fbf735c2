// A safetensors file of any bytes: opened, and every tensor read.
#include "fuzz_input.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace crumb;
  const fuzz::MemoryFile file({data, size});
  return fuzz::expect_no_crash([&] {
    const io::SafetensorsFile tensors(file.path());
    for (const io::TensorInfo& tensor : tensors.tensors()) {
      if (is_float(tensor.dtype)) (void)tensors.read_f32(tensor.name);
      (void)tensors.bytes(tensor);
    }
  });
}
