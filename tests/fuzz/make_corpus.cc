// Writes the seeds of every fuzz target into FOLDER/<target>/: the smallest models that each format can hold.
#include <cstdio>
#include <fstream>

#include "base/error.h"
#include "formats/exporter.h"
#include "support/codes_checkpoint.h"

namespace {

using namespace crumb;
namespace fs = std::filesystem;

void put(const fs::path& file, const std::string& bytes) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << bytes;
}
std::string joined(const std::string& first, const std::string& second) {
  std::string out;
  for (int i = 0; i < 4; ++i) out += static_cast<char>(first.size() >> 8 * i & 255);
  return out + first + second;
}
std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_seeds(const fs::path& corpus) {
  const fs::path work = corpus / "work";
  test::TinyModel model;
  model.hidden = model.intermediate = 32;
  model.blocks = 1;
  model.heads = model.kv_heads = 2;
  model.vocabulary = 8;
  model.tied = true;
  model.changes = {{"bos_token_id", 0}, {"eos_token_id", 1}};
  test::write_tiny_model(work / "float", model);
  put(corpus / "safetensors" / "float", text_of(work / "float" / "model.safetensors"));
  put(corpus / "config" / "float", text_of(work / "float" / "config.json"));
  for (const int bits : {2, 3, 4}) {
    for (const formats::Exporter* exporter : formats::exporters()) {
      quant::AffineSpec spec;
      spec.bits = bits;
      spec.group_size = 32;
      const std::string name(exporter->name());
      const bool symmetric = name == "gptq-v1" || name == "compressed-tensors";
      const test::CodesCheckpoint source(
          work / "float", test::random_linears(work / "float", spec,
                                               symmetric ? test::Zeros::kMiddle : test::Zeros::kMiddleTwo));
      const fs::path out = work / (name + std::to_string(bits));
      try {
        if (!exporter->writes_directory()) {
          exporter->write(source, out, {});
          put(corpus / name / std::to_string(bits), text_of(out));
          continue;
        }
        test::export_to(*exporter, source, out);
      } catch (const Error& error) {
        std::fprintf(stderr, "no seed for %s at %d bits: %s\n", name.c_str(), bits, error.what());
        continue;
      }
      const std::string seed = std::to_string(bits);
      if (fs::exists(out / "model.onnx")) {
        put(corpus / "onnx" / seed, joined(text_of(out / "model.onnx"), text_of(out / "model.onnx_data")));
        continue;
      }
      put(corpus / "config" / (name + seed), text_of(out / "config.json"));
      put(corpus / "safetensors" / (name + seed), text_of(out / "model.safetensors"));
      put(corpus / name / seed, joined(text_of(out / "config.json"), text_of(out / "model.safetensors")));
    }
  }
  fs::remove_all(work);
}

}  // namespace

int main(int count, char** values) {
  if (count != 2) {
    std::fputs("usage: make_corpus FOLDER\n", stderr);
    return 2;
  }
  write_seeds(values[1]);
  return 0;
}
