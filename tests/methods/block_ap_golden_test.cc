// Block-AP against the authors' code on a tiny model, step by step.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "formats/gptq.h"
#include "methods/efficientqat/block_ap.h"
#include "methods/initialize.h"
#include "methods/tiny_golden.h"
#include "nn/causal_lm.h"
#include "support/golden_file.h"

namespace crumb::methods::efficientqat {
namespace {

using test::int_setting;
using test::setting;

constexpr double kBound = 1e-5;  // relative; the authors' fp64 run differs from their fp32 one by 3.5e-7

calib::ActivationStore store_of(const at::Tensor& windows) {  // [W, T, H]
  calib::ActivationStore store(windows.size(0), windows.size(1), windows.size(2), {});
  store.write(0, windows);
  return store;
}

void advance(calib::ActivationStore& store, const nn::DecoderBlock& block, std::int64_t batch,
             const nn::RopeTable& rope, const nn::Compute& compute) {
  const at::NoGradGuard no_grad;
  for (std::int64_t begin = 0; begin < store.windows(); begin += batch)
    store.write(begin, block.forward(store.read(begin, batch), rope, compute));
}

// The largest relative difference of losses over all blocks; checks the rest itself.
double run(const io::SafetensorsFile& file, const nn::Compute& compute, double lr_factor) {
  const model::ModelConfig config = test::tiny_config(file);
  const quant::AffineSpec spec{static_cast<int>(int_setting(file, "bits")), int_setting(file, "group_size"),
                               quant::Grid::kAsym};
  recipe::BlockAp how;
  how.epochs = int_setting(file, "epochs");
  how.batch = int_setting(file, "batch");
  how.weight_lr = setting(file, "weight_lr");
  how.quant_lr = setting(file, "quant_lr");
  how.min_lr_factor = setting(file, "min_lr_factor");
  const at::Tensor embedding = test::tensor(file, "init.model.embed_tokens.weight");
  const auto embed = [&](const char* name) {
    const auto& shape = file.at(name).shape;
    return at::embedding(embedding, nn::ids_tensor(file.read_i32(name), shape[0], shape[1], at::kCPU));
  };
  calib::ActivationStore full = store_of(embed("tokens.train")), quantized = store_of(embed("tokens.train"));
  calib::ActivationStore full_validation = store_of(embed("tokens.val")),
                         quantized_validation = store_of(embed("tokens.val"));
  const nn::RopeTable rope = nn::make_rope_table(config, int_setting(file, "context"), at::kCPU);
  double worst = 0;
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string golden = cat("block", i, ".");
    SCOPED_TRACE(golden);
    nn::DecoderBlock block = test::tiny_block(file, config, cat("init.", model::block_prefix(i)));
    advance(full, block, how.batch, rope, compute);
    advance(full_validation, block, how.batch, rope, compute);
    start_block(block, spec, {recipe::InitMethod::kMinMax, 1, 1}, nullptr);
    for (const model::LinearRole role : model::kLinearRoles) {
      const std::string name = cat(golden, "init.", model::hf_name(role), ".weight_quantizer.");
      EXPECT_TRUE(at::equal(block.linear(role).scale.flatten(), test::tensor(file, name + "scale").flatten()))
          << name;
      EXPECT_TRUE(at::equal(block.linear(role).zero_point.flatten(),
                            test::tensor(file, name + "zero_point").flatten()))
          << name;
    }
    const BlockApResult result =
        train_block(block, {quantized, full}, {quantized_validation, full_validation}, rope, how, 0,
                    lr_factor, compute, at::kCPU, {});
    const auto losses = file.read_f64(golden + "loss"), norms = file.read_f64(golden + "grad_norm"),
               lrs = file.read_f64(golden + "lr_used");
    EXPECT_EQ(result.steps.size(), losses.size());
    for (std::size_t k = 0; k < std::min(losses.size(), result.steps.size()); ++k) {
      worst = std::max(worst, std::abs(result.steps[k].loss - losses[k]) / losses[k]);
      if (lr_factor == 1) {
        EXPECT_NEAR(result.steps[k].gradient_norm / norms[k], 1, kBound) << "step " << k;
        EXPECT_NEAR(result.steps[k].quant_lr, lrs[2 * k], 1e-12) << "step " << k;
        EXPECT_NEAR(result.steps[k].weight_lr, lrs[2 * k + 1], 1e-12) << "step " << k;
      }
    }
    const auto validation = file.read_f64(golden + "epoch_val_loss");
    if (lr_factor == 1) {
      for (std::size_t e = 0; e < validation.size(); ++e)
        EXPECT_NEAR(result.epoch_validation_loss.at(e) / validation[e], 1, kBound);
      for (const model::LinearRole role : model::kLinearRoles) {
        const auto& linear = block.linear(role);
        const std::string name = cat(golden, "packed.", model::hf_name(role), ".");
        // The authors choose codes with the trained f32 scale and round the scale to binary16 afterwards.
        const formats::GptqTensors packed =
            formats::pack_gptq(linear.quantized(/*scale_f16=*/false), quant::WordLayout::kPadded);
        const auto qweight = file.read_i32(name + "qweight"), qzeros = file.read_i32(name + "qzeros");
        EXPECT_EQ(0, std::memcmp(packed.qweight.data(), qweight.data(), qweight.size() * 4))
            << name << "qweight";
        EXPECT_EQ(0, std::memcmp(packed.qzeros.data(), qzeros.data(), qzeros.size() * 4)) << name << "qzeros";
        const at::Tensor final_scale =
            test::tensor(file, cat(golden, "final.", model::hf_name(role), ".weight_quantizer.scale"))
                .flatten();
        EXPECT_LT((linear.scale.flatten() - final_scale).abs().max().item<double>(), 2e-6) << name;
      }
    }
    // The next block sees fake-quantized weights with f32 scales, as in the authors' run.
    for (const model::LinearRole role : model::kLinearRoles)
      block.linear(role).set_dequantized(block.linear(role).quantized(false), at::kCPU);
    advance(quantized, block, how.batch, rope, compute);
    advance(quantized_validation, block, how.batch, rope, compute);
  }
  return worst;
}

std::vector<std::filesystem::path> files() {
  return test::golden_files("efficientqat", "blockap_tiny_");
}

TEST(EfficientQatBlockAp, LossesOfEveryStepAndFinalCodesEqualTheAuthors) {
  if (files().empty())
    GTEST_SKIP() << "golden/efficientqat/blockap_tiny_*.safetensors is not here (set CRUMB_SHARED)";
  for (const auto& path : files()) {
    SCOPED_TRACE(path.filename().string());
    EXPECT_LT(run(io::SafetensorsFile(path), {nn::Precision::kF32, /*fused=*/true}, 1), kBound);
  }
}

TEST(EfficientQatBlockAp, ComposedOperatorsGiveTheSameLosses) {
  if (files().empty())
    GTEST_SKIP() << "golden/efficientqat/blockap_tiny_*.safetensors is not here (set CRUMB_SHARED)";
  for (const auto& path : files())
    EXPECT_LT(run(io::SafetensorsFile(path), {nn::Precision::kF32, /*fused=*/false}, 1), kBound);
}

TEST(EfficientQatBlockAp, TheBoundNoticesALearningRateThatIsOffByOnePercent) {
  if (files().empty())
    GTEST_SKIP() << "golden/efficientqat/blockap_tiny_*.safetensors is not here (set CRUMB_SHARED)";
  EXPECT_GT(run(io::SafetensorsFile(files().front()), {nn::Precision::kF32, true}, 1.01), kBound);
}

}  // namespace
}  // namespace crumb::methods::efficientqat
