// Models of other programs' formats, and models whose linears differ, in the engine.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/engine.h"
#include "runtime/packed_model.h"
#include "support/codes_checkpoint.h"

namespace crumb::runtime {
namespace {

using quant::AffineSpec;
using quant::Grid;

std::vector<float> logits_of(const std::filesystem::path& path, Accuracy accuracy) {
  EngineOptions options;
  options.accuracy = accuracy;
  options.threads = 2;
  options.head_bits = 0;
  const auto engine = Engine::load(path, options);
  const std::vector<std::int32_t> ids = test::random_ids(30, 4);
  const auto sequence = engine->new_sequence(static_cast<std::int64_t>(ids.size()));
  std::vector<float> out;
  engine->step_all({sequence.get(), ids}, [&](std::int64_t, std::int64_t, std::span<const float> logits) {
    out.insert(out.end(), logits.begin(), logits.end());
  });
  return out;
}

double largest(const std::vector<float>& x) {
  double worst = 0;
  for (const float v : x) worst = std::max(worst, std::abs(static_cast<double>(v)));
  return worst;
}
double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> difference(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return largest(difference);
}

/// The engine's bound against plain loops (engine_test.cc), relative to logits of size 4, once for each side.
constexpr double kTwoRuns = 2 * 2e-5 / 4;

class OtherFormats : public ::testing::Test {
 protected:
  void SetUp() override { test::write_tiny_model(floats(), {}, test::tiny_tensors(), DType::kF16); }
  std::filesystem::path floats() const { return folder_ / "floats"; }
  test::TempDir folder_;
};

TEST_F(OtherFormats, EachGivesTheLogitsOfItsDequantizedWeights) {
  const test::CodesCheckpoint codes(
      floats(), test::random_linears(floats(), {4, 32, Grid::kAsym}, test::Zeros::kMiddleTwo));
  test::export_to(formats::hf_exporter(DType::kF32), codes, folder_ / "hf");
  const auto wanted = logits_of(folder_ / "hf", Accuracy::kExact);
  for (const char* name :
       {"gptq", "gptq-v1", "auto-round", "compressed-tensors", "compressed-tensors-asym", "awq", "mlx"}) {
    test::export_to(formats::find_exporter(name), codes, folder_ / name);
    const auto got = logits_of(folder_ / name, Accuracy::kExact);
    EXPECT_LT(worst_difference(got, wanted), kTwoRuns * largest(wanted)) << name;
    EXPECT_LT(worst_difference(logits_of(folder_ / name, Accuracy::kInt8), wanted), 0.1 * largest(wanted))
        << name;
  }
}

// compressed-tensors' own tools write F32 scales for an F32 model.
TEST_F(OtherFormats, ScalesThatAreNoBinary16NumbersRunAsFloats) {
  auto linears = test::random_linears(floats(), {4, 32, Grid::kAsym}, test::Zeros::kMiddle);
  test::export_to(formats::find_exporter("compressed-tensors"), test::CodesCheckpoint(floats(), linears),
                  folder_ / "model");
  for (auto& [name, linear] : linears)
    if (name.find("down_proj") == std::string::npos)
      for (float& s : linear.scales) s *= 1.0001f;
  {
    const io::SafetensorsFile file(folder_ / "model" / "model.safetensors");
    std::vector<io::TensorToWrite> tensors;
    for (const auto& t : file.tensors()) {
      const std::string linear = t.name.substr(0, t.name.rfind('.'));
      if (t.name.ends_with(".weight_scale")) {
        tensors.push_back({t.name, DType::kF32, t.shape, [&scales = linears.at(linear).scales] {
                             return io::bytes_of(std::span<const float>(scales));
                           }});
      } else {
        const auto bytes = file.bytes(t);
        tensors.push_back({t.name, t.dtype, t.shape,
                           [bytes] { return std::vector<std::byte>(bytes.begin(), bytes.end()); }});
      }
    }
    io::write_safetensors(folder_ / "changed.safetensors", std::move(tensors), {});
  }
  std::filesystem::rename(folder_ / "changed.safetensors", folder_ / "model" / "model.safetensors");
  test::export_to(formats::hf_exporter(DType::kF32), test::CodesCheckpoint(floats(), linears),
                  folder_ / "hf");
  const auto wanted = logits_of(folder_ / "hf", Accuracy::kExact);
  EXPECT_LT(worst_difference(logits_of(folder_ / "model", Accuracy::kExact), wanted),
            kTwoRuns * largest(wanted));
  EXPECT_LT(worst_difference(logits_of(folder_ / "model", Accuracy::kInt8), wanted), 0.1 * largest(wanted));
  EngineOptions options;
  const auto engine = Engine::load(folder_ / "model", options);
  using model::LinearRole;
  const auto& block = engine->weights().blocks[0].linears;
  EXPECT_FALSE(block[static_cast<std::size_t>(LinearRole::kQ)].is_lowbit);
  EXPECT_TRUE(block[static_cast<std::size_t>(LinearRole::kDown)].is_lowbit) << "its scales fit";
}

// q, k and v read the same rounded activations: their groups must end at the same places.
TEST_F(OtherFormats, LinearsOfOneInputMayDifferInBitsAndGroups) {
  const std::string attention = "model.layers.0.self_attn.", mlp = "model.layers.1.mlp.";
  auto linears = test::random_linears(floats(), {2, 64, Grid::kAsym}, test::Zeros::kAny,
                                      {{attention + "q_proj", {3, 16, Grid::kAsym}},
                                       {attention + "k_proj", {8, 32, Grid::kAsym}},
                                       {mlp + "gate_proj", {4, -1, Grid::kAsym}},
                                       {mlp + "up_proj", {2, 32, Grid::kAsym}},
                                       {mlp + "down_proj", {4, 128, Grid::kAsym}}});
  linears.erase(attention + "v_proj");
  const test::CodesCheckpoint codes(floats(), linears);
  test::export_to(formats::hf_exporter(DType::kF32), codes, folder_ / "hf");
  test::export_to(formats::own_directory_exporter(), codes, folder_ / "own");
  const auto wanted = logits_of(folder_ / "hf", Accuracy::kExact),
             got = logits_of(folder_ / "own", Accuracy::kExact);
  EXPECT_LT(worst_difference(got, wanted), kTwoRuns * largest(wanted));
  EXPECT_LT(worst_difference(logits_of(folder_ / "own", Accuracy::kInt8), wanted), 0.1 * largest(wanted));

  linears.at(attention + "q_proj").codes[5] ^= 4;  // negative control
  test::export_to(formats::own_directory_exporter(), test::CodesCheckpoint(floats(), linears),
                  folder_ / "other");
  EXPECT_GT(worst_difference(logits_of(folder_ / "other", Accuracy::kExact), wanted),
            kTwoRuns * largest(wanted));
}

}  // namespace
}  // namespace crumb::runtime
