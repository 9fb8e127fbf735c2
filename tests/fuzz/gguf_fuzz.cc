// A GGUF file of any bytes, as a container, as tensors, and as a model.
#include "formats/checkpoint.h"
#include "formats/gguf_types.h"
#include "fuzz_input.h"
#include "io/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace crumb;
  static const fuzz::Folder folder;
  folder.put("model.gguf", {data, size});
  fuzz::expect_no_crash([&] {
    const io::GgufFile file(folder.path() / "model.gguf");
    formats::check_gguf_tensors(file);
    for (const io::GgufTensor& tensor : file.tensors()) {
      const formats::GgufType& type = *formats::find_gguf_type(tensor.type);
      const std::int64_t bytes = formats::gguf_tensor_bytes(tensor);
      std::vector<float> values(static_cast<std::size_t>(bytes / type.block_bytes * type.block_elements));
      formats::dequantize_gguf(type, file.bytes(tensor, static_cast<std::uint64_t>(bytes)), values);
    }
  });
  return fuzz::expect_no_crash([&] { (void)formats::Checkpoint::open(folder.path() / "model.gguf"); });
}
