// Static grids of the inputs of linears: calibrated, written, evaluated, run by the engine, exported.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/exporter.h"
#include "nn/torch_language_model.h"
#include "pipeline/load_model.h"
#include "pipeline/quantize_model.h"
#include "pipeline/tiny_run.h"
#include "runtime/engine.h"
#include "runtime/engine_language_model.h"
#include "support/expect_error.h"

namespace crumb::pipeline {
namespace {

using nlohmann::ordered_json;
using quant::Granularity;
using recipe::Stage;
using test::TinyRun;

QuantizeRequest static_request(const TinyRun& run, Granularity granularity, const std::string& output,
                               bool symmetric = true) {
  QuantizeRequest request = run.request({Stage::kSmoothQuant, Stage::kRounding}, 8, output);
  request.recipe.weights = {8, -1, quant::Grid::kSignedSym};
  request.recipe.rounding.method = recipe::InitMethod::kAbsMax;
  request.recipe.activations = {symmetric ? 8 : 7, 16, symmetric, false, granularity};
  return request;
}

const std::vector<std::int32_t>& prompt() {
  static const std::vector<std::int32_t> ids = {5, 17, 3, 60, 44, 9, 21, 30, 2, 11, 50, 7, 28, 33, 14, 41};
  return ids;
}

std::vector<float> all_logits(model::LanguageModel& model) {
  std::vector<float> out;
  model.forward(prompt(), [&](std::int64_t, std::int64_t, std::span<const float> logits) {
    out.insert(out.end(), logits.begin(), logits.end());
  });
  return out;
}

std::vector<float> torch_logits(const std::filesystem::path& model, bool rounded) {
  nn::CausalLm lm = load_causal_lm(*formats::Checkpoint::open(model), {nn::Precision::kF32, true}, at::kCPU,
                                   Residency::kFloat);
  if (!rounded)
    for (nn::DecoderBlock& block : lm.blocks) block.activations = {};
  return all_logits(*nn::make_language_model(std::make_shared<nn::CausalLm>(std::move(lm))));
}

std::vector<float> engine_logits(const std::filesystem::path& model, runtime::Accuracy accuracy) {
  runtime::EngineOptions options;
  options.accuracy = accuracy;
  options.threads = 2;
  options.head_bits = 0;
  options.kv_format = kernels::KvFormat::kF32;
  runtime::EngineLanguageModel engine(runtime::Engine::load(model, options));
  return all_logits(engine);
}

/// Of the differences; of `a` alone where `b` is empty.
double rms(const std::vector<float>& a, const std::vector<float>& b = {}) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - (b.empty() ? 0.0 : static_cast<double>(b[i]));
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(a.size()));
}

TEST(StaticActivations, AreCalibratedWrittenAndReadBack) {
  const TinyRun run;
  for (const bool symmetric : {true, false}) {
    for (const Granularity granularity : {Granularity::kPerTensor, Granularity::kPerChannel}) {
      const std::string name = cat(quant::to_string(granularity), symmetric);
      SCOPED_TRACE(name);
      const ordered_json report = quantize_model(static_request(run, granularity, name, symmetric));
      const auto written = formats::Checkpoint::open(run.path(name));
      EXPECT_EQ(*written->activation_scheme(),
                (quant::ActivationScheme{symmetric ? 8 : 7, 16, symmetric, granularity}));
      const auto q = *written->input_grid("model.layers.1.self_attn.q_proj"),
                 k = *written->input_grid("model.layers.1.self_attn.k_proj"),
                 down = *written->input_grid("model.layers.1.mlp.down_proj");
      EXPECT_EQ(q, k) << "they read one input";
      EXPECT_NE(q.scales, down.scales);
      const auto inputs = static_cast<std::size_t>(written->config().intermediate_size);
      EXPECT_EQ(down.scales.size(), granularity == Granularity::kPerTensor ? 1u : inputs);
      // What evaluation sees is what was written, and rounding shows.
      const std::vector<float> rounded = torch_logits(run.path(name), true),
                               whole = torch_logits(run.path(name), false);
      const double cost = rms(rounded, whole);
      EXPECT_GT(cost, 1e-5);
      EXPECT_LT(cost, 0.2 * rms(whole));
      // A code at a tie may flip between two orders of summation: far less than what rounding does.
      EXPECT_LT(rms(engine_logits(run.path(name), runtime::Accuracy::kExact), rounded), 0.1 * cost);
      EXPECT_LT(rms(engine_logits(run.path(name), runtime::Accuracy::kInt8), rounded), 0.1 * cost);
    }
  }
}

TEST(StaticActivations, TakeTheRangesOfTheCalibrationWindows) {
  const TinyRun run;
  QuantizeRequest request = static_request(run, Granularity::kPerTensor, "few");
  quantize_model(request);
  const auto scale_of = [&](const std::string& output) {
    return formats::Checkpoint::open(run.path(output))->input_grid("model.layers.0.mlp.down_proj")->scales[0];
  };
  request.output = run.path("more");
  request.recipe.calibration.samples = 4;
  quantize_model(request);
  EXPECT_LE(scale_of("more"), scale_of("few")) << "fewer windows cannot widen a range";
  EXPECT_GT(scale_of("more"), 0);
}

TEST(StaticActivations, GoIntoTheExportsThatHaveWordsForThem) {
  const TinyRun run;
  quantize_model(static_request(run, Granularity::kPerTensor, "tensor"));
  quantize_model(static_request(run, Granularity::kPerChannel, "channel"));
  const auto tensor = formats::Checkpoint::open(run.path("tensor")),
             channel = formats::Checkpoint::open(run.path("channel"));
  const std::string name = "model.layers.0.self_attn.o_proj";
  const auto exported = [&](const formats::Checkpoint& source, const char* format,
                            const std::string& output) {
    std::filesystem::create_directory(run.path(output));
    formats::find_exporter(format).write(source, run.path(output), {});
    return formats::Checkpoint::open(run.path(output));
  };
  for (const char* format : {"gptq", "gptq-v1", "compressed-tensors"}) {
    SCOPED_TRACE(format);
    EXPECT_EQ(formats::find_exporter(format).lost_activations(*tensor->activation_scheme()), "");
    const auto back = exported(*tensor, format, cat("t-", format));
    EXPECT_EQ(back->activation_scheme(), tensor->activation_scheme());
    EXPECT_EQ(back->input_grid(name), tensor->input_grid(name));
  }
  EXPECT_EQ(exported(*channel, "gptq", "c-gptq")->input_grid(name), channel->input_grid(name));
  for (const auto& [source, format] :
       {std::pair{tensor.get(), "auto-round"}, {channel.get(), "compressed-tensors"}}) {
    SCOPED_TRACE(format);
    EXPECT_EQ(formats::find_exporter(format).lost_activations(*source->activation_scheme()),
              quant::scheme_name(*source->activation_scheme()));
    const auto back = exported(*source, format, cat("lost-", format));
    EXPECT_FALSE(back->activation_scheme().has_value());
    EXPECT_FALSE(back->input_grid(name).has_value());
  }
}

TEST(StaticActivations, AreRefusedWithStagesThatTrainThroughQuantizers) {
  const TinyRun run;
  for (const Stage stage : {Stage::kOmniQuant, Stage::kSignRound}) {
    QuantizeRequest request = run.request({stage}, 4);
    request.recipe.activations = {8, 16, true, true, Granularity::kPerTensor};
    test::expect_error(
        ErrorKind::kInvalidArgument,
        {"activations.granularity per_tensor", std::string(recipe::to_string(stage)), "per_token"},
        [&] { quantize_model(request); });
  }
  QuantizeRequest request = run.request({Stage::kRounding}, 4);
  request.recipe.activations = {16, 16, true, true, Granularity::kPerChannel};
  test::expect_error(ErrorKind::kInvalidArgument, {"per_channel", "activations.bits is 16"},
                     [&] { quantize_model(request); });
}

TEST(StaticActivations, OfADamagedCheckpointAreRefused) {
  const TinyRun run;
  quantize_model(static_request(run, Granularity::kPerTensor, "out"));
  for (const char* file : {"config.json", "quantize_config.json"}) {
    ordered_json config = ordered_json::parse(test::file_bytes(run.path("out") / file));
    ordered_json& quantization =
        config.contains("quantization_config") ? config["quantization_config"] : config;
    quantization["meta"]["activations"]["granularity"] = "per_channel";
    std::ofstream(run.path("out") / file) << config.dump(1);
  }
  test::expect_error(ErrorKind::kCorrupt, {"input scales", "per_channel", "q_proj"},
                     [&] { formats::Checkpoint::open(run.path("out")); });
}

}  // namespace
}  // namespace crumb::pipeline
