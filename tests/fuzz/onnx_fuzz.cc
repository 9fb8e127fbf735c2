// A directory of model.onnx (first half of the input) and model.onnx_data, with a fixed config.json.
#include "formats/onnx/onnx_file.h"
#include "fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace crumb;
  static const fuzz::Folder folder;
  const fuzz::Halves input = fuzz::halves({data, size});
  folder.put("model.onnx", input.first);
  folder.put("model.onnx_data", input.second);
  return fuzz::expect_no_crash([&] {
    const formats::OnnxFile file(folder.path() / "model.onnx");
    for (const auto& [codes, op] : file.products()) {
      const std::string linear = codes.substr(0, codes.rfind('.'));
      const auto* q = file.find(codes);
      const auto* s = file.find(linear + ".scales");
      const auto* z = file.find(linear + ".qzeros");
      if (q != nullptr && s != nullptr && z != nullptr)
        (void)formats::unpack_matmul_nbits(op, q->bytes, s->bytes, z->bytes, linear);
    }
  });
}
