// Every stage of recipe/recipe.h in whole runs: what it writes, what it reports, that stages combine.
#include <gtest/gtest.h>

#include <cmath>

#include "eval/perplexity.h"
#include "formats/checkpoint.h"
#include "methods/smoothquant/smoothquant.h"
#include "pipeline/load_model.h"
#include "pipeline/quantize_model.h"
#include "pipeline/run_data.h"
#include "pipeline/tiny_run.h"
#include "support/expect_error.h"

namespace crumb::pipeline {
namespace {

using nlohmann::ordered_json;
using recipe::Stage;
using test::expect_error;
using test::stage;
using test::TinyRun;

test::TinyModel qwen3() {
  test::TinyModel model;
  model.family = "qwen3";
  model.architecture = "Qwen3ForCausalLM";
  model.qk_norm = model.tied = true;
  model.head_dim = 32;
  return model;
}
test::TinyModel qwen2() {
  test::TinyModel model;
  model.family = "qwen2";
  model.architecture = "Qwen2ForCausalLM";
  model.qkv_bias = true;
  return model;
}

QuantizeRequest small(const TinyRun& run, const std::vector<Stage>& stages,
                      const std::string& output = "out") {
  return run.request(stages, 3, output);
}

// The perplexity of a directory as `crumb eval` measures it in torch.
double measured(const TinyRun& run, const std::string& model) {
  LoadedModel loaded = load_model(run.path(model), {"cpu", "f32", 1});
  const auto windows = data::prepare_evaluation(run.path("tokens.safetensors").string() + ":val", nullptr,
                                                loaded.model->vocab_size(), 32, 0);
  return eval::perplexity(*loaded.model, windows).ppl;
}

double stream_loss(const ordered_json& report) {
  return report["blocks"].back()["stream_loss"].get<double>();
}

// Random weights have no salient channels, but every method minimizes the error of a block's outputs, or of
// its linears', on the very windows that the stream is measured on.
TEST(MethodStages, EachLowersTheErrorOfRoundingAndWritesWhatItEvaluated) {
  const TinyRun run;
  QuantizeRequest request = small(run, {Stage::kRounding}, "plain");
  request.recipe.rounding.method = recipe::InitMethod::kMinMax;
  request.calib_spec = run.path("tokens.safetensors");
  request.recipe.rounding.method = recipe::InitMethod::kClipSearchActivation;
  request.recipe.rounding.min_ratio = 1;  // min-max, with streams to compare
  const double plain = stream_loss(quantize_model(request));
  for (const Stage only : {Stage::kGptq, Stage::kAwq, Stage::kSignRound, Stage::kOmniQuant}) {
    const std::string name(recipe::to_string(only));
    SCOPED_TRACE(name);
    const ordered_json report = quantize_model(small(run, {only}, name));
    EXPECT_LT(stream_loss(report), plain);
    ASSERT_TRUE(stage(report, name).is_object()) << report["stages"].dump();
    EXPECT_EQ(stage(report, name)["ppl"].get<double>(), measured(run, name));
    EXPECT_TRUE(report["blocks"][0].contains(name)) << report["blocks"][0].dump();
    EXPECT_GT(report["block_stages"]["seconds"].get<double>(), 0);
    const std::string card = test::file_bytes(run.path(name) / "README.md");
    EXPECT_NE(card.find("arXiv:"), std::string::npos) << card;
  }
}

TEST(MethodStages, GiveTheSameBytesAgainAndOthersWithOtherNumbers) {
  const TinyRun run;
  const auto weights = [&](const std::vector<Stage>& stages, const std::string& output, const char* set) {
    QuantizeRequest request = small(run, stages, output);
    if (*set != 0) recipe::set_field(request.recipe, set);
    quantize_model(request);
    return run.weights(output);
  };
  const std::tuple<Stage, const char*> cases[] = {
      {Stage::kGptq, "gptq.sequential=false"},        {Stage::kAwq, "awq.clip=false"},
      {Stage::kSignRound, "signround.seed=7"},        {Stage::kOmniQuant, "omniquant.lwc_lr=0.05"},
      {Stage::kSignRound, "objective.token_cap=0.7"}, {Stage::kOmniQuant, "objective.token_cap=0.7"}};
  for (const auto& [only, set] : cases) {
    SCOPED_TRACE(set);
    const std::string first = weights({only}, cat(recipe::to_string(only), "1"), "");
    EXPECT_TRUE(first == weights({only}, cat(recipe::to_string(only), "2"), ""));
    EXPECT_FALSE(first == weights({only}, cat(recipe::to_string(only), "3"), set))
        << "the field does nothing";
  }
}

// The transformations change norms and biases: what is written must be what was evaluated, in every family.
TEST(MethodStages, TransformEveryFamilyWithoutChangingWhatItComputes) {
  for (const test::TinyModel& model : {test::TinyModel{}, qwen2(), qwen3()}) {
    SCOPED_TRACE(model.family);
    const TinyRun run(model);
    const double fp = measured(run, "model");
    for (const std::vector<Stage>& stages :
         {std::vector{Stage::kAwq}, {Stage::kSmoothQuant, Stage::kRounding}, {Stage::kOmniQuant}}) {
      const std::string name(recipe::to_string(stages.front()));
      SCOPED_TRACE(name);
      QuantizeRequest request = small(run, stages, name);
      request.recipe.weights = {8, 32,
                                quant::Grid::kAsym};  // so fine that the transformation alone would show
      // Learned clipping starts by cutting 1.8 % off every range, which at 8 bits is the larger error.
      request.recipe.omniquant.lwc = false;
      request.recipe.omniquant.let = request.recipe.omniquant.up_down = true;
      request.recipe.smoothquant.value_output = request.recipe.smoothquant.up_down = true;
      if (stages.front() == Stage::kSmoothQuant) request.recipe.activations.bits = 8;
      const ordered_json report = quantize_model(request);
      const double ppl = measured(run, name);
      EXPECT_EQ(stage(report, name)["ppl"].get<double>(), ppl);
      EXPECT_NEAR(std::log(ppl / fp), 0, 0.02);
      const auto before = formats::Checkpoint::open(run.path("model")),
                 after = formats::Checkpoint::open(run.path(name));
      const std::string norm = "model.layers.1.post_attention_layernorm.weight";
      EXPECT_NE(before->read_f32(norm), after->read_f32(norm)) << "the transformation must show";
      if (model.qkv_bias && stages.front() != Stage::kAwq) {
        const std::string bias = "model.layers.1.self_attn.v_proj.bias";
        EXPECT_NE(before->read_f32(bias), after->read_f32(bias));
      }
    }
  }
}

// Block-AP with rates of 0 must leave the very bytes that the stage before it would have written.
TEST(MethodStages, BlockApStartsFromTheVeryCodesOfAnyStage) {
  const TinyRun run;
  for (const Stage chooser :
       {Stage::kRounding, Stage::kGptq, Stage::kAwq, Stage::kSignRound, Stage::kOmniQuant}) {
    const std::string name(recipe::to_string(chooser));
    SCOPED_TRACE(name);
    QuantizeRequest alone = small(run, {chooser}, name),
                    still = small(run, {chooser, Stage::kBlockAp}, name + "_ap");
    still.recipe.block_ap.weight_lr = still.recipe.block_ap.quant_lr = 0;
    quantize_model(alone);
    const ordered_json report = quantize_model(still);
    EXPECT_TRUE(run.weights(name) == run.weights(name + "_ap"));
    EXPECT_EQ(report["blocks"][0]["losses"].size(), 8u);

    still.output = run.path(name + "_trained");
    still.recipe.block_ap.weight_lr = still.recipe.block_ap.quant_lr = 1e-4;
    const ordered_json trained = quantize_model(still);
    EXPECT_EQ(trained["blocks"][0]["first_loss"], report["blocks"][0]["first_loss"]);
    EXPECT_NE(trained["blocks"][0]["last_loss"], report["blocks"][0]["last_loss"]);
    EXPECT_FALSE(run.weights(name) == run.weights(name + "_trained"));
    if (chooser != Stage::kRounding) continue;
    still.output = run.path(name + "_capped");
    still.recipe.objective.token_cap = 0.7;
    EXPECT_LT(quantize_model(still)["blocks"][0]["first_loss"].get<double>(),
              trained["blocks"][0]["first_loss"].get<double>());
    EXPECT_FALSE(run.weights(name + "_capped") == run.weights(name + "_trained"));
  }
}

TEST(MethodStages, EndToEndTrainingGoesOnFromAnyStage) {
  const TinyRun run;
  for (const std::vector<Stage>& stages : {std::vector{Stage::kAwq, Stage::kBlockAp, Stage::kE2eQp},
                                           {Stage::kOmniQuant, Stage::kE2eQp},
                                           {Stage::kAwq, Stage::kGptq, Stage::kE2eQp}}) {
    const std::string before(recipe::to_string(stages[stages.size() - 2]));
    SCOPED_TRACE(before);
    QuantizeRequest request = small(run, stages, before);
    request.recipe.e2e_qp.steps = 8;  // two passes over four windows
    request.recipe.e2e_qp.lr = 2e-5;
    const ordered_json report = quantize_model(request);
    const auto losses = report["e2e_qp"]["losses"].get<std::vector<double>>();
    ASSERT_EQ(losses.size(), 8u);
    EXPECT_LT(losses[4] + losses[5] + losses[6] + losses[7], losses[0] + losses[1] + losses[2] + losses[3]);
    EXPECT_EQ(stage(report, "e2e_qp")["ppl"].get<double>(), measured(run, before));
    EXPECT_TRUE(stage(report, before).is_object()) << report["stages"].dump();
  }
}

TEST(MethodStages, RecordActivationBitsThatEvaluationThenUses) {
  const TinyRun run;
  const auto quantized = [&](const std::string& output, int bits, int kv_bits) {
    QuantizeRequest request = small(run, {Stage::kOmniQuant}, output);
    request.recipe.weights = {4, -1, quant::Grid::kAsym};
    request.recipe.omniquant.let = true;
    request.recipe.activations = {bits, kv_bits, false, false};
    return quantize_model(request);
  };
  const ordered_json w4a4 = quantized("w4a4", 4, 4);
  EXPECT_EQ(stage(w4a4, "omniquant")["ppl"].get<double>(), measured(run, "w4a4"));
  const auto bits = formats::Checkpoint::open(run.path("w4a4"))->activation_scheme();
  ASSERT_TRUE(bits.has_value());
  EXPECT_EQ(*bits, (quant::ActivationScheme{4, 4, false}));
  // The same weights with the record taken out are the W4A16 model.
  std::filesystem::copy(run.path("w4a4"), run.path("w4a16"));
  for (const char* file : {"config.json", "quantize_config.json"}) {
    ordered_json config = ordered_json::parse(test::file_bytes(run.path("w4a16") / file));
    ordered_json& quantization =
        config.contains("quantization_config") ? config["quantization_config"] : config;
    ASSERT_EQ(quantization["meta"]["activations"]["bits"], 4);
    quantization["meta"].erase("activations");
    std::ofstream(run.path("w4a16") / file) << config.dump(1);
  }
  EXPECT_FALSE(formats::Checkpoint::open(run.path("w4a16"))->activation_scheme().has_value());
  EXPECT_NE(measured(run, "w4a16"), measured(run, "w4a4"));
  quantized("kv", 16, 4);
  EXPECT_EQ(*formats::Checkpoint::open(run.path("kv"))->activation_scheme(),
            (quant::ActivationScheme{16, 4, false}));

  // The plain baseline, and Block-AP and E2E-QP with the quantizers on.
  QuantizeRequest request = small(run, {Stage::kRounding, Stage::kBlockAp, Stage::kE2eQp}, "trained");
  request.recipe.weights.bits = 4;
  request.recipe.activations = {4, 16, true, true};
  const ordered_json trained = quantize_model(request);
  EXPECT_EQ(stage(trained, "e2e_qp")["ppl"].get<double>(), measured(run, "trained"));
  EXPECT_LT(trained["blocks"][0]["epoch_train_loss"][1], trained["blocks"][0]["epoch_train_loss"][0]);
}

// Eight symmetric bits a row lose next to nothing; the rows are SmoothQuant's own.
TEST(MethodStages, RoundByTheLargestWeight) {
  const TinyRun run;
  QuantizeRequest request = small(run, {Stage::kRounding});
  request.recipe.weights = {8, -1, quant::Grid::kSignedSym};
  request.recipe.rounding.method = recipe::InitMethod::kAbsMax;
  const ordered_json report = quantize_model(request);
  EXPECT_NEAR(std::log(measured(run, "out") / measured(run, "model")), 0, 0.01);
  EXPECT_EQ(stage(report, "rtn")["ppl"], stage(report, "start")["ppl"]);
  const auto before = formats::Checkpoint::open(run.path("model")),
             after = formats::Checkpoint::open(run.path("out"));
  const std::string name = "model.layers.1.mlp.down_proj";
  const quant::QuantizedLinear found = *after->read_packed(name),
                               wanted = methods::smoothquant::quantize_weight(
                                   tensor_from(before->read_f32(name + ".weight"), {64, 128}), true);
  EXPECT_EQ(found.codes, wanted.codes);
  EXPECT_EQ(found.scales, wanted.scales);
  EXPECT_EQ(found.zero_points, wanted.zero_points);
}

TEST(MethodStages, StoreSixBitsInEight) {
  const TinyRun run;
  for (const Stage chooser :
       {Stage::kRounding, Stage::kGptq, Stage::kAwq, Stage::kSignRound, Stage::kOmniQuant}) {
    const std::string name(recipe::to_string(chooser));
    SCOPED_TRACE(name);
    QuantizeRequest request = small(run, {chooser, Stage::kBlockAp}, name);
    request.recipe.weights = {6, 32, quant::Grid::kSignedSym};
    quantize_model(request);
    const auto written = formats::Checkpoint::open(run.path(name));
    EXPECT_EQ(written->packed_spec()->bits, 8);
    const auto linear = written->read_packed("model.layers.0.mlp.up_proj");
    EXPECT_LE(*std::max_element(linear->codes.begin(), linear->codes.end()), 63);
    EXPECT_GT(*std::max_element(linear->codes.begin(), linear->codes.end()), 31);
    const ordered_json config =
        ordered_json::parse(test::file_bytes(run.path(name) / "quantize_config.json"));
    EXPECT_EQ(config["meta"]["weight_bits"], 6);
    EXPECT_GT(measured(run, name), 1);
  }
}

TEST(MethodStages, AreRefusedWhereTheFamilyHasNoPlaceForThem) {
  const TinyRun run;
  QuantizeRequest request = small(run, {Stage::kOmniQuant});
  request.recipe.omniquant.let = request.recipe.omniquant.shift = true;
  expect_error(ErrorKind::kUnsupported, {"shift", "llama", "no bias"}, [&] { quantize_model(request); });
  request = small(run, {Stage::kAwq});
  request.recipe.awq.value_output = recipe::Use::kOn;
  expect_error(ErrorKind::kUnsupported, {"awq.value_output", "4 query heads on 2"},
               [&] { quantize_model(request); });
  EXPECT_FALSE(std::filesystem::exists(run.path("out.run"))) << "refused before anything is written";
  // Control: with a value head for each query head it is admitted.
  test::TinyModel model;
  model.kv_heads = 4;
  const TinyRun ungrouped(model);
  request = small(ungrouped, {Stage::kAwq});
  request.recipe.awq.value_output = recipe::Use::kOn;
  EXPECT_TRUE(quantize_model(request)["blocks"][0]["awq"].contains("v -> o"));
}

TEST(MethodStages, GiveUpAfterThreeAttemptsNamingTheirRates) {
  const TinyRun run;
  QuantizeRequest request = small(run, {Stage::kOmniQuant});
  request.recipe.omniquant.let = true;
  request.recipe.omniquant.let_lr = 1e38;  // the first update takes the factors out of what f32 holds
  expect_error(ErrorKind::kNumerics, {"block 0", "omniquant", "3 attempts", "omniquant.let_lr"},
               [&] { quantize_model(request); });
  EXPECT_FALSE(std::filesystem::exists(run.path("out")));
}

}  // namespace
}  // namespace crumb::pipeline
