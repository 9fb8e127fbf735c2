// OPT through whole runs: torch computes what the plain loops do, every method quantizes it, and what is
// written is read, exported and run.
#include <gtest/gtest.h>

#include "eval/perplexity.h"
#include "formats/exporter.h"
#include "pipeline/load_model.h"
#include "pipeline/quantize_model.h"
#include "pipeline/run_data.h"
#include "pipeline/tiny_run.h"
#include "runtime/engine.h"
#include "runtime/engine_language_model.h"
#include "support/expect_error.h"
#include "support/tiny_opt.h"

namespace crumb::pipeline {
namespace {

using nlohmann::ordered_json;
using recipe::Stage;

class Opt : public ::testing::Test {
 protected:
  Opt() { write_tiny_opt(run_.path("model"), model_, tensors_); }

  double perplexity(model::LanguageModel& model) const {
    const auto windows = data::prepare_evaluation(run_.path("tokens.safetensors").string() + ":val", nullptr,
                                                  model.vocab_size(), 32, 0);
    return eval::perplexity(model, windows).ppl;
  }
  double in_torch(const std::string& name) const {
    return perplexity(*load_model(run_.path(name), {"cpu", "f32", 1}).model);
  }
  double in_the_engine(const std::string& name) const {
    runtime::EngineOptions options;
    options.accuracy = runtime::Accuracy::kExact;
    runtime::EngineLanguageModel model(runtime::Engine::load(run_.path(name), options));
    return perplexity(model);
  }
  test::TinyRun run_;
  test::TinyOpt model_;
  test::TinyTensors tensors_ = tiny_opt_tensors(model_);
};

TEST_F(Opt, TorchComputesWhatThePlainLoopsDo) {
  const LoadedModel loaded = load_model(run_.path("model"), {"cpu", "f32", 1});
  SplitMix64 random(4);
  std::vector<std::int32_t> ids(30);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.next() % 256);
  const auto wanted = plain_opt(model_, tensors_, ids);
  loaded.model->forward(ids, [&](std::int64_t first, std::int64_t rows, std::span<const float> logits) {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(logits.size()); ++i) {
      const std::int64_t width = static_cast<std::int64_t>(logits.size()) / rows;
      EXPECT_NEAR(logits[static_cast<std::size_t>(i)],
                  wanted[static_cast<std::size_t>(first + i / width)][static_cast<std::size_t>(i % width)],
                  4e-5);
    }
  });
  // With a cache, in pieces.
  const auto session = loaded.model->open_session(1, 30);
  for (std::size_t at = 0; at < ids.size(); at += 10) {
    const auto logits = session->append(std::span(ids).subspan(at, 10), 10);
    for (std::size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(logits[i], wanted[at + 9][i], 4e-5);
  }
  EXPECT_NEAR(in_torch("model"), in_the_engine("model"), 1e-4 * in_torch("model"));
}

TEST_F(Opt, EveryMethodQuantizesIt) {
  const std::vector<Stage> runs[] = {{Stage::kRounding, Stage::kBlockAp, Stage::kE2eQp},
                                     {Stage::kGptq},
                                     {Stage::kAwq, Stage::kE2eQp},
                                     {Stage::kSignRound},
                                     {Stage::kOmniQuant},
                                     {Stage::kSmoothQuant, Stage::kRounding}};
  for (const std::vector<Stage>& stages : runs) {
    SCOPED_TRACE(recipe::to_string(stages.front()));
    QuantizeRequest r = run_.request(stages, 4);
    if (stages.front() == Stage::kSmoothQuant) r.recipe.activations.bits = 8;
    const ordered_json report = quantize_model(r);
    const double ppl = in_torch("out");
    EXPECT_NEAR(report["stages"].back()["ppl"].get<double>(), ppl, 1e-9 * ppl);
    EXPECT_LT(ppl, 1.5 * report["stages"].front()["ppl"].get<double>());
    EXPECT_NEAR(in_the_engine("out"), ppl, 2e-3 * ppl);
    std::filesystem::remove_all(run_.path("out"));
  }
}

TEST_F(Opt, OmniQuantTrainsShiftsAndTheCheckpointHoldsThem) {
  QuantizeRequest r = run_.request({Stage::kOmniQuant}, 4);
  r.recipe.activations.bits = r.recipe.activations.kv_bits = 6;
  r.recipe.omniquant.let = r.recipe.omniquant.shift = true;
  const ordered_json report = quantize_model(r);
  const ordered_json& row = report["blocks"][0]["omniquant"];
  EXPECT_LE(row["last_loss"].get<double>(), row["first_loss"].get<double>());
  EXPECT_NEAR(report["stages"].back()["ppl"].get<double>(), in_torch("out"), 1e-6 * in_torch("out"));
  const auto before = formats::Checkpoint::open(run_.path("model")),
             after = formats::Checkpoint::open(run_.path("out"));
  for (const char* name : {"model.layers.1.input_layernorm.bias", "model.layers.1.self_attn.o_proj.bias",
                           "model.layers.1.self_attn.v_proj.bias", "model.layers.0.mlp.up_proj.bias"})
    EXPECT_NE(before->read_f32(name), after->read_f32(name)) << name;
  EXPECT_EQ(before->read_f32("model.layers.1.mlp.down_proj.bias"),
            after->read_f32("model.layers.1.mlp.down_proj.bias"));
}

TEST_F(Opt, ExportsKeepTheWeightsAndTheNamesOfItsFiles) {
  QuantizeRequest r = run_.request({Stage::kRounding}, 2);
  r.recipe.weights.grid = quant::Grid::kSignedSym;
  r.recipe.weights.group_size = 32;
  quantize_model(r);
  const auto source = formats::Checkpoint::open(run_.path("out"));
  const double ppl = in_the_engine("out");
  for (const formats::Exporter* format : formats::exporters()) {
    const std::string name(format->name());
    SCOPED_TRACE(name);
    const auto fits = format->fits(*source);
    EXPECT_EQ(fits.size(), 12u);
    std::filesystem::create_directories(run_.path(name));
    if (name == "gguf" || name == "mlx") {
      EXPECT_NE(fits.front().reason.find("OPT"), std::string::npos) << fits.front().reason;
      test::expect_error(ErrorKind::kUnsupported, {"OPT"},
                         [&] { format->write(*source, run_.path(name), {}); });
      continue;
    }
    EXPECT_TRUE(fits.front().lossless || name.starts_with("hf-")) << fits.front().reason;
    formats::ExportOptions options;
    options.requantize = name.starts_with("hf-");
    format->write(*source, run_.path(name), options);
    EXPECT_NEAR(in_the_engine(name), ppl, (name.starts_with("hf-") ? 1e-2 : 1e-5) * ppl);
    if (name == "onnx") continue;
    const std::string bytes = test::file_bytes(run_.path(name) / "model.safetensors");
    EXPECT_NE(bytes.find("\"model.decoder.layers.1.fc1."), std::string::npos);
    EXPECT_EQ(bytes.find("mlp.up_proj"), std::string::npos);
  }
}

}  // namespace
}  // namespace crumb::pipeline
