// Exported files in llama.cpp: its parser and its dequantizers give crumb's weights to the last bit, and the
// model runs. Needs the venv that scripts/clients.sh llamacpp makes; skipped without it.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/half.h"
#include "base/str.h"
#include "formats/gguf_export.h"
#include "formats/gguf_metadata.h"
#include "formats/hf_output.h"
#include "io/safetensors.h"
#include "quant/affine.h"
#include "support/temp_dir.h"
#include "support/tiny_gguf.h"
#include "support/tiny_model.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using test::TinyModel;

std::optional<fs::path> llamacpp_python() {
  const char* set = std::getenv("CRUMB_LLAMACPP_VENV");
  const fs::path venv =
      set != nullptr ? fs::path(set) : fs::path(CRUMB_SOURCE_DIR) / ".deps/clients/llamacpp";
  if (!fs::exists(venv / "ready")) return std::nullopt;
  return venv / "bin/python";
}

/// Min-max; zero points drawn from lowest … highest, every third scale negative.
quant::QuantizedLinear rounded(const std::vector<float>& w, std::int64_t n, std::int64_t k,
                               const quant::AffineSpec& spec, int lowest, int highest) {
  const auto groups = static_cast<std::size_t>(n * spec.groups(k));
  quant::QuantizedLinear linear{n, k, spec, std::vector<std::uint8_t>(w.size()), std::vector<float>(groups),
                                {}};
  std::vector<float> zeros(groups);
  quant::init_minmax(w, n, k, spec, linear.scales, zeros);
  for (std::size_t i = 0; i < groups; ++i) {
    linear.scales[i] = round_to_f16(linear.scales[i]);
    zeros[i] = static_cast<float>(lowest + static_cast<int>(i) % (highest - lowest + 1));
    linear.zero_points.push_back(static_cast<std::uint8_t>(zeros[i]));
  }
  quant::quantize(w, linear.scales, zeros, n, k, spec, linear.codes);
  for (std::size_t i = 0; i < linear.codes.size(); i += 32) {  // every block has both ends of the range
    linear.codes[i] = 0;
    linear.codes[i + 1] = static_cast<std::uint8_t>(spec.max_code());
  }
  for (std::size_t i = 0; i < groups; i += 3) linear.scales[i] = -linear.scales[i];
  return linear;
}

struct Case {
  const char* family;
  quant::AffineSpec spec;
  int lowest, highest;  // zero points
  const char* type;
};

class LlamaCpp : public testing::TestWithParam<Case> {};

TEST_P(LlamaCpp, ReadsTheWeightsThatWereExported) {
  const auto python = llamacpp_python();
  if (!python)
    GTEST_SKIP()
        << "llama.cpp is not here (scripts/clients.sh llamacpp puts it under .deps/clients/llamacpp)";
  const Case& c = GetParam();
  TinyModel m;
  m.hidden = m.intermediate = 256;
  m.heads = 8;
  m.head_dim = 32;
  if (std::string_view(c.family) == "qwen2") {
    m.family = "qwen2";
    m.architecture = "Qwen2ForCausalLM";
    m.qkv_bias = m.tied = true;
  } else {
    m.qkv_bias = m.output_bias = m.mlp_bias = true;
  }
  const test::TempDir folder;
  const test::TinyTensors tensors = test::tiny_tensors(m);
  test::write_tiny_model(folder / "float", m, tensors);
  const auto source = Checkpoint::open(folder / "float");
  fs::create_directory(folder / "packed");
  HfOutputOptions output;
  output.spec = c.spec;
  test::TinyTensors expected = tensors;
  write_hf_gptq(*source, folder / "packed", output, [&](std::int64_t block) {
    PackedBlock packed;
    for (const model::LinearRole role : model::kLinearRoles) {
      const std::string name = model::linear_name(block, role) + ".weight";
      const auto [n, k] = model::linear_shape(source->config(), role);
      packed.linears[static_cast<std::size_t>(role)] =
          rounded(tensors.at(name).values, n, k, c.spec, c.lowest, c.highest);
      expected[name].values = quant::dequantize(packed.linears[static_cast<std::size_t>(role)]);
    }
    return packed;
  });
  const auto packed = Checkpoint::open(folder / "packed");
  for (const LinearFit& fit : gguf_exporter().fits(*packed)) EXPECT_EQ(fit.stored_as, c.type) << fit.reason;
  ExportOptions options;
  options.head_type = "F16";
  gguf_exporter().write(*packed, folder / "m.gguf", options);

  std::vector<io::TensorToWrite> stored;
  for (auto& tensor : test::tiny_gguf_tensors(m, expected)) {
    const auto count = static_cast<std::int64_t>(tensor.size / 4);
    stored.push_back({tensor.name, DType::kF32, {count}, tensor.produce});
  }
  io::write_safetensors(folder / "expected.safetensors", std::move(stored), {});
  const auto run = [&] {
    return std::system(cat("OMP_NUM_THREADS=1 '", python->string(), "' '", CRUMB_SOURCE_DIR,
                           "/tests/clients/llamacpp_weights.py' '", (folder / "m.gguf").string(), "' '",
                           (folder / "expected.safetensors").string(), "'")
                           .c_str());
  };
  EXPECT_EQ(run(), 0);
  // Negative control: one weight that is another.
  expected["model.layers.1.self_attn.k_proj.weight"].values[77] += 0x1p-20f;
  stored.clear();
  for (auto& tensor : test::tiny_gguf_tensors(m, expected))
    stored.push_back(
        {tensor.name, DType::kF32, {static_cast<std::int64_t>(tensor.size / 4)}, tensor.produce});
  io::write_safetensors(folder / "expected.safetensors", std::move(stored), {});
  EXPECT_NE(run(), 0);
}

INSTANTIATE_TEST_SUITE_P(Types, LlamaCpp,
                         testing::Values(Case{"llama", {2, 64, quant::Grid::kAsym}, 1, 2, "Q2_0"},
                                         Case{"qwen2", {2, 64, quant::Grid::kAsym}, 1, 2, "Q2_0"},
                                         Case{"llama", {2, 256, quant::Grid::kAsym}, 0, 3, "Q2_K"},
                                         Case{"llama", {3, 256, quant::Grid::kAsym}, 3, 4, "Q3_K"},
                                         Case{"llama", {3, 32, quant::Grid::kAsym}, 0, 7, "Q4_0"},
                                         Case{"qwen2", {4, 128, quant::Grid::kAsym}, 7, 8, "Q4_0"},
                                         Case{"llama", {4, 256, quant::Grid::kAsym}, 0, 15, "Q4_K"},
                                         Case{"llama", {4, 128, quant::Grid::kAsym}, 2, 2, "Q4_1"},
                                         Case{"llama", {4, 128, quant::Grid::kAsym}, 0, 15, "Q5_0"},
                                         Case{"llama", {8, 64, quant::Grid::kAsym}, 127, 128, "Q8_0"}),
                         [](const auto& info) {
                           return cat(info.param.family, info.param.type, "Bits", info.param.spec.bits);
                         });

}  // namespace
}  // namespace crumb::formats
