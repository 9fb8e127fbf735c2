// A directory of config.json (first half of the input) and model.safetensors: opened as a checkpoint, every
// tensor that its configuration promises read. One program for each format, told apart by their corpora.
#include "formats/checkpoint.h"
#include "fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace crumb;
  static const fuzz::Folder folder;
  const fuzz::Halves input = fuzz::halves({data, size});
  folder.put("config.json", input.first);
  folder.put("model.safetensors", input.second);
  return fuzz::expect_no_crash([&] {
    const auto checkpoint = formats::Checkpoint::open(folder.path());
    const model::ModelConfig& config = checkpoint->config();
    const auto read = [&](const model::PromisedTensor& tensor) {
      const std::string linear = tensor.name.substr(0, tensor.name.rfind('.'));
      if (!tensor.linear_weight || !checkpoint->read_packed(linear)) (void)checkpoint->read_f32(tensor.name);
    };
    for (const auto& tensor : model::outer_tensors(config)) read(tensor);
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
      for (const auto& tensor : model::block_tensors(config, i)) read(tensor);
    }
  });
}
