// E2E-QP against the authors' code on a tiny model, step by step.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/gptq.h"
#include "methods/efficientqat/e2e_qp.h"
#include "methods/tiny_golden.h"
#include "support/golden_file.h"

namespace crumb::methods::efficientqat {
namespace {

using test::int_setting;
using test::setting;

constexpr double kBound = 1e-5;

nn::CausalLm load(const io::SafetensorsFile& file, const nn::Compute& compute) {
  const quant::AffineSpec spec{static_cast<int>(int_setting(file, "bits")), int_setting(file, "group_size"),
                               quant::Grid::kAsym};
  nn::CausalLm lm;
  lm.config = test::tiny_config(file);
  lm.compute = compute;
  lm.embedding = test::tensor(file, "ckpt.model.embed_tokens.weight");
  lm.head = test::tensor(file, "ckpt.lm_head.weight");
  lm.final_norm = test::tensor(file, "ckpt.model.norm.weight");
  for (std::int64_t i = 0; i < lm.config.num_hidden_layers; ++i) {
    nn::DecoderBlock block(lm.config);
    const std::string prefix = cat("ckpt.", model::block_prefix(i));
    for (auto& [name, norm] : block.norms()) *norm = test::tensor(file, prefix + name);
    for (const model::LinearRole role : model::kLinearRoles) {
      const model::LinearShape shape = model::linear_shape(lm.config, role);
      const std::string name = cat(prefix, model::hf_name(role), ".");
      const auto words = [&](const std::string& tensor) {
        const auto signed_words = file.read_i32(tensor);
        return std::vector<std::uint32_t>(signed_words.begin(), signed_words.end());
      };
      formats::GptqTensors tensors{
          shape.n, shape.k, words(name + "qweight"), words(name + "qzeros"), file.read_f32(name + "scales"),
          {}};
      for (std::int64_t k = 0; k < shape.k; ++k)
        tensors.g_idx.push_back(static_cast<std::int32_t>(k / spec.group_size));
      block.linear(role).set_packed(
          formats::unpack_gptq(tensors, spec, quant::WordLayout::kPadded, formats::GptqZeros::kV2, name),
          at::kCPU);
    }
    lm.blocks.push_back(std::move(block));
  }
  return lm;
}

double run(const io::SafetensorsFile& file, const nn::Compute& compute, bool checkpointing,
           double lr_factor) {
  nn::CausalLm lm = load(file, compute);
  const std::int64_t steps = int_setting(file, "steps"), accumulation = int_setting(file, "accumulation"),
                     micro = int_setting(file, "micro_batch"), context = int_setting(file, "context");
  recipe::E2eQp how;
  how.lr = setting(file, "lr") * lr_factor;
  how.loss = recipe::E2eLoss::kCrossEntropy;
  how.max_grad_norm = setting(file, "max_grad_norm");
  how.warmup_ratio = static_cast<double>(int_setting(file, "warmup_steps")) / static_cast<double>(steps);
  how.weight_decay = 0;
  recipe::Performance performance;
  performance.activation_checkpointing = checkpointing;
  performance.logits_chunk_tokens = 50;  // does not divide the tokens: the last chunk is shorter
  E2eQp trainer(lm, how, performance, steps);
  const auto tokens = file.read_i32("tokens");
  const auto losses = file.read_f64("micro_loss"), norms = file.read_f64("grad_norm"),
             lrs = file.read_f64("lr_used");
  double worst = 0;
  for (std::int64_t k = 0; k < steps; ++k) {
    std::vector<E2eBatch> batches;
    for (std::int64_t a = 0; a < accumulation; ++a) {
      const auto begin = static_cast<std::size_t>((k * accumulation + a) * micro * context);
      batches.push_back({nn::ids_tensor({tokens.data() + begin, static_cast<std::size_t>(micro * context)},
                                        micro, context, at::kCPU),
                         {}});
    }
    const E2eStep step = trainer.step(batches);
    for (std::int64_t a = 0; a < accumulation; ++a) {
      const double golden = losses[static_cast<std::size_t>(k * accumulation + a)];
      worst = std::max(worst, std::abs(step.micro_losses[static_cast<std::size_t>(a)] - golden) / golden);
    }
    if (lr_factor == 1) {
      EXPECT_NEAR(step.gradient_norm / norms[static_cast<std::size_t>(k)], 1, 1e-4) << "step " << k;
      EXPECT_NEAR(step.lr, lrs[static_cast<std::size_t>(k)], 1e-15) << "step " << k;
    }
  }
  trainer.finish();
  if (lr_factor == 1) {
    for (std::int64_t i = 0; i < lm.config.num_hidden_layers; ++i) {
      for (const model::LinearRole role : model::kLinearRoles) {
        const std::string name = cat("final.", model::linear_name(i, role), ".scales");
        const at::Tensor golden = test::tensor(file, name).t(),
                         ours = lm.blocks[static_cast<std::size_t>(i)].linear(role).scale;
        // Scales moved by up to 2e-4; a hundredth of that is allowed where Adam divides small gradients by
        // their own size.
        EXPECT_LT((ours - golden).abs().max().item<double>(), 2e-6) << name;
      }
    }
  }
  return worst;
}

std::vector<std::filesystem::path> files() {
  return test::golden_files("efficientqat", "e2eqp_tiny_");
}

TEST(EfficientQatE2eQp, LossesOfEveryMicroBatchAndFinalScalesEqualTheAuthors) {
  if (files().empty())
    GTEST_SKIP() << "golden/efficientqat/e2eqp_tiny_*.safetensors is not here (set CRUMB_SHARED)";
  for (const auto& path : files()) {
    SCOPED_TRACE(path.filename().string());
    EXPECT_LT(run(io::SafetensorsFile(path), {nn::Precision::kF32, true}, /*checkpointing=*/true, 1), kBound);
  }
}

TEST(EfficientQatE2eQp, WithoutCheckpointingAndComposedTheSame) {
  if (files().empty())
    GTEST_SKIP() << "golden/efficientqat/e2eqp_tiny_*.safetensors is not here (set CRUMB_SHARED)";
  EXPECT_LT(
      run(io::SafetensorsFile(files().front()), {nn::Precision::kF32, false}, /*checkpointing=*/false, 1),
      kBound);
}

TEST(EfficientQatE2eQp, TheBoundNoticesALearningRateThatIsOffByOnePercent) {
  if (files().empty())
    GTEST_SKIP() << "golden/efficientqat/e2eqp_tiny_*.safetensors is not here (set CRUMB_SHARED)";
  EXPECT_GT(run(io::SafetensorsFile(files().front()), {nn::Precision::kF32, true}, true, 1.01), kBound);
}

}  // namespace
}  // namespace crumb::methods::efficientqat
