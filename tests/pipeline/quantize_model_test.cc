// Whole runs in this process: what they give. Failures: failed_run_test.cc; interruptions:
// interrupted_run_e2e_test.cc.
#include "pipeline/quantize_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "eval/perplexity.h"
#include "formats/checkpoint.h"
#include "nn/compute.h"
#include "pipeline/load_model.h"
#include "pipeline/run_data.h"
#include "pipeline/tiny_run.h"
#include "support/tiny_gguf.h"

namespace crumb::pipeline {
namespace {

using nlohmann::ordered_json;
using test::stage;
using test::TinyRun;

// The perplexity of a directory as `crumb eval` measures it.
double measured(const TinyRun& run, const std::string& model, int threads = 1) {
  LoadedModel loaded = load_model(run.path(model), {"cpu", "f32", threads});
  const auto windows = data::prepare_evaluation(run.path("tokens.safetensors").string() + ":val", nullptr,
                                                loaded.model->vocab_size(), 32, 0);
  return eval::perplexity(*loaded.model, windows).ppl;
}

TEST(QuantizeModel, ReportsEveryStageAndTheWrittenFilesPerplexity) {
  const TinyRun run;
  const ordered_json report = quantize_model(run.request());
  EXPECT_EQ(report, ordered_json::parse(test::file_bytes(run.path("out") / "crumb_report.json")));
  EXPECT_FALSE(report["total"]["resumed"].get<bool>());
  for (const char* name : {"fp", "rtn", "block_ap", "e2e_qp"}) {
    const ordered_json row = stage(report, name);
    ASSERT_TRUE(row.is_object()) << name;
    EXPECT_GT(row["ppl"].get<double>(), 1) << name;
    EXPECT_GT(row["peak_rss_bytes"].get<double>(), 1e6) << name;
  }
  EXPECT_EQ(stage(report, "fp")["ppl"].get<double>(), measured(run, "model"));
  EXPECT_EQ(stage(report, "e2e_qp")["ppl"].get<double>(), measured(run, "out"));
  EXPECT_NE(measured(run, "model"), measured(run, "out"));

  ASSERT_EQ(report["blocks"].size(), 2u);
  double seconds = 0;
  for (const auto& block : report["blocks"]) {
    EXPECT_EQ(block["losses"].size(), 8u);  // 2 epochs of 8 windows, 2 a step
    EXPECT_EQ(block["epoch_validation_loss"].size(), 2u);
    EXPECT_LT(block["epoch_train_loss"][1].get<double>(), block["epoch_train_loss"][0].get<double>());
    EXPECT_GT(block["largest_token_energy"].get<double>(), block["median_token_energy"].get<double>());
    seconds += block["seconds"].get<double>();
  }
  EXPECT_DOUBLE_EQ(stage(report, "block_ap")["seconds"].get<double>(), seconds);
  EXPECT_EQ(report["e2e_qp"]["losses"].size(), 4u);
  // The kernel counts pages in batches for each processor: two readings of one peak may differ by some.
  constexpr std::int64_t kBatch = 1 << 20;
  EXPECT_GE(report["total"]["peak_rss_bytes"].get<std::int64_t>() + kBatch,
            stage(report, "e2e_qp")["peak_rss_bytes"].get<std::int64_t>());
  EXPECT_FALSE(std::filesystem::exists(run.path("out.run")));
  EXPECT_EQ(test::names_in(run.folder()),
            (std::vector<std::string>{"model", "out", "text.txt", "tokens.safetensors"}));
}

TEST(QuantizeModel, CountsBitsFromTheFile) {
  const TinyRun run;
  const ordered_json report = quantize_model(run.request());
  const auto checkpoint = formats::Checkpoint::open(run.path("out"));
  EXPECT_EQ(report["output"]["tensor_bytes"], checkpoint->tensor_bytes());
  EXPECT_EQ(stage(report, "e2e_qp")["file_bytes"], checkpoint->tensor_bytes());
  std::int64_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(run.path("out"))) {
    const std::string name = entry.path().filename();
    if (name != "crumb_report.json" && name != "README.md")
      files += static_cast<std::int64_t>(entry.file_size());
  }
  EXPECT_EQ(report["output"]["file_bytes"].get<std::int64_t>(), files);
  EXPECT_EQ(checkpoint->packed_spec()->bits, 2);
}

TEST(QuantizeModel, WritesAModelCardWithTheReportsNumbers) {
  const TinyRun run;
  const ordered_json report = quantize_model(run.request());
  const std::string card = test::file_bytes(run.path("out") / "README.md");
  EXPECT_EQ(card.substr(0, 4), "---\n");
  for (const std::string& part : {std::string("# model, w2g64"), std::string("arXiv:2407.11062"),
                                  fixed(stage(report, "fp")["ppl"].get<double>(), 2),
                                  fixed(stage(report, "e2e_qp")["ppl"].get<double>(), 2),
                                  fixed(report["output"]["bits_per_weight"].get<double>(), 3)}) {
    EXPECT_NE(card.find(part), std::string::npos) << part << " in:\n" << card;
  }
  EXPECT_EQ(card.find(run.folder().string()), std::string::npos)
      << "a card names no folders of the machine that made it";
}

TEST(QuantizeModel, QuantizesFromATextFile) {
  const TinyRun run;
  QuantizeRequest request = run.request();
  request.calib_spec = run.path("text.txt");
  request.eval_spec = run.path("text.txt");
  request.eval_windows = 3;
  const ordered_json report = quantize_model(request);
  EXPECT_EQ(report["evaluation"]["windows"], 3);
  EXPECT_LT(report["e2e_qp"]["losses"].back(), report["e2e_qp"]["losses"].front());
  request.output = run.path("tokens");
  request.calib_spec = run.path("tokens.safetensors");
  EXPECT_NE(quantize_model(request)["calibration"]["content_hash"], report["calibration"]["content_hash"]);
  EXPECT_NE(run.weights("tokens"), run.weights());
}

TEST(QuantizeModel, SamplesItsOwnTextWhenAskedForSelf) {
  const TinyRun run;
  QuantizeRequest request = run.request();
  request.calib_spec = "self";
  const ordered_json report = quantize_model(request);
  request.output = run.path("again");
  const ordered_json again = quantize_model(request);
  EXPECT_EQ(report["calibration"], again["calibration"]);
  EXPECT_EQ(run.weights(), run.weights("again"));
  request.output = run.path("other");
  request.recipe.calibration.seed = 3;
  EXPECT_NE(quantize_model(request)["calibration"]["content_hash"], report["calibration"]["content_hash"]);
}

TEST(QuantizeModel, RoundsToNearestWithoutCalibration) {
  const TinyRun run;
  QuantizeRequest request = run.request();
  request.recipe.rounding.method = recipe::InitMethod::kMinMax;
  request.recipe.stages = {recipe::Stage::kRounding};
  request.calib_spec = run.path("absent.txt");
  const ordered_json report = quantize_model(request);
  EXPECT_EQ(stage(report, "rtn")["ppl"].get<double>(), measured(run, "out"));
  EXPECT_FALSE(report.contains("calibration"));
  EXPECT_FALSE(report["blocks"][0].contains("stream_loss")) << "nothing was measured";
}

TEST(QuantizeModel, TrainsByCrossEntropyOrByTheTeacher) {
  const TinyRun run;
  QuantizeRequest request = run.request("kl");
  const ordered_json kl = quantize_model(request);
  request.output = run.path("ce");
  request.recipe.e2e_qp.loss = recipe::E2eLoss::kCrossEntropy;
  const ordered_json ce = quantize_model(request);
  EXPECT_EQ(kl["blocks"][1]["losses"], ce["blocks"][1]["losses"]);
  for (const ordered_json& report : {kl, ce}) {
    EXPECT_LT(report["e2e_qp"]["losses"].back().get<double>(),
              report["e2e_qp"]["losses"].front().get<double>());
  }
  EXPECT_GT(ce["e2e_qp"]["losses"][0].get<double>(), kl["e2e_qp"]["losses"][0].get<double>())
      << "CE = KL + the data's entropy under the teacher";
  EXPECT_NE(run.weights("kl"), run.weights("ce"));
}

TEST(QuantizeModel, GivesTheSameBytesWithStreamsInMappedFiles) {
  const TinyRun run;
  QuantizeRequest request = run.request("memory");
  quantize_model(request);
  request.output = run.path("mapped");
  request.recipe.performance.activation_ram_limit_bytes = 1;
  quantize_model(request);
  EXPECT_EQ(run.weights("memory"), run.weights("mapped"));
  request.output = run.path("bf16");
  request.recipe.block_ap.store_dtype = recipe::StoreDtype::kBF16;
  quantize_model(request);
  EXPECT_NE(run.weights("memory"), run.weights("bf16")) << "streams that are rounded must leave a trace";
}

// Recomputing a block in the backward pass runs the same operations on the same numbers; only gradients that
// meet (residuals) may be added in another order: a few units of 2^-24 on losses of about 1, over 4 steps.
TEST(QuantizeModel, LosesNothingByActivationCheckpointing) {
  const TinyRun run;
  QuantizeRequest request = run.request("with");
  const ordered_json with = quantize_model(request);
  request.output = run.path("without");
  request.recipe.performance.activation_checkpointing = false;
  const ordered_json without = quantize_model(request);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(with["e2e_qp"]["losses"][i].get<double>(), without["e2e_qp"]["losses"][i].get<double>(), 1e-6)
        << i;
    EXPECT_NEAR(without["e2e_qp"]["gradient_norms"][i].get<double>() /
                    with["e2e_qp"]["gradient_norms"][i].get<double>(),
                1, 1e-4)
        << i;
  }
}

TEST(QuantizeModel, RunsOnTwoThreads) {
  const TinyRun run;
  QuantizeRequest request = run.request("one");
  const ordered_json one = quantize_model(request);
  request.output = run.path("two");
  request.threads = 2;
  const ordered_json two = quantize_model(request);
  EXPECT_EQ(two["threads"], 2);
  // The first loss precedes any update: only the order of f32 sums differs.
  EXPECT_NEAR(two["blocks"][0]["losses"][0].get<double>() / one["blocks"][0]["losses"][0].get<double>(), 1,
              1e-4);
  EXPECT_EQ(stage(two, "e2e_qp")["ppl"].get<double>(), measured(run, "two", 2));
}

TEST(QuantizeModel, TrainsInBf16WhereTheProcessorIsFastAtIt) {
  try {
    nn::resolve_precision("bf16", at::kCPU);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  const TinyRun run;
  QuantizeRequest request = run.request("f32");
  const ordered_json f32 = quantize_model(request);
  request.output = run.path("bf16");
  request.recipe.block_ap.precision = request.recipe.e2e_qp.precision = recipe::Precision::kBF16;
  const ordered_json bf16 = quantize_model(request);
  EXPECT_EQ(bf16["precision"]["block_ap"], "bf16");
  EXPECT_NE(run.weights("f32"), run.weights("bf16"));
  for (const char* which : {"first_loss", "last_loss"}) {
    // Operands keep 8 bits: their products are off by 2^-8 at most, sums of 64 of them by less, losses by
    // twice that.
    EXPECT_NEAR(bf16["blocks"][1][which].get<double>() / f32["blocks"][1][which].get<double>(), 1, 0.02)
        << which;
  }
  EXPECT_EQ(stage(bf16, "e2e_qp")["ppl"].get<double>(), measured(run, "bf16")) << "evaluations are in f32";
}

TEST(QuantizeModel, KnowsTheNormsOfQwen3AndTheBiasesOfQwen2) {
  test::TinyModel qwen3, qwen2;
  qwen3.family = "qwen3";
  qwen3.architecture = "Qwen3ForCausalLM";
  qwen3.qk_norm = qwen3.tied = true;
  qwen3.head_dim = 32;
  qwen2.family = "qwen2";
  qwen2.architecture = "Qwen2ForCausalLM";
  qwen2.qkv_bias = true;
  for (const test::TinyModel& model : {qwen3, qwen2}) {
    const TinyRun run(model);
    const ordered_json report = quantize_model(run.request());
    EXPECT_EQ(stage(report, "e2e_qp")["ppl"].get<double>(), measured(run, "out")) << model.family;
    const auto& losses = report["blocks"][0]["epoch_train_loss"];
    EXPECT_LT(losses[1].get<double>(), losses[0].get<double>()) << model.family;
    const auto before = formats::Checkpoint::open(run.path("model")),
               after = formats::Checkpoint::open(run.path("out"));
    if (model.qk_norm) {
      const std::string name = "model.layers.1.self_attn.q_norm.weight";
      EXPECT_NE(before->read_f32(name), after->read_f32(name)) << "norms are trained";
    } else {
      const std::string name = "model.layers.1.self_attn.k_proj.bias";
      EXPECT_EQ(before->read_f32(name), after->read_f32(name)) << "biases are not";
    }
  }
}

TEST(QuantizeModel, GivesTheSameCodesFromGgufAsFromSafetensors) {
  const TinyRun run;
  quantize_model(run.request());
  test::write_tiny_gguf(run.path("model.gguf"), {}, test::tiny_tensors());
  QuantizeRequest request = run.request("from_gguf");
  request.model = run.path("model.gguf");
  const ordered_json report = quantize_model(request);
  EXPECT_EQ(stage(report, "e2e_qp")["ppl"].get<double>(), measured(run, "from_gguf"));
  EXPECT_EQ(measured(run, "from_gguf"), measured(run, "out"));
  const auto a = formats::Checkpoint::open(run.path("out")),
             b = formats::Checkpoint::open(run.path("from_gguf"));
  for (const model::LinearRole role : model::kLinearRoles) {
    const auto from_hf = a->read_packed(model::linear_name(1, role)),
               from_gguf = b->read_packed(model::linear_name(1, role));
    EXPECT_EQ(from_hf->codes, from_gguf->codes) << model::linear_name(1, role);
    EXPECT_EQ(from_hf->scales, from_gguf->scales) << model::linear_name(1, role);
  }
}

TEST(QuantizeModel, QuantizesItsOwnOutputAgain) {
  const TinyRun run;
  quantize_model(run.request());
  QuantizeRequest request = run.request("again");
  request.model = run.path("out");
  request.recipe.weights.bits = 4;
  const ordered_json report = quantize_model(request);
  // Four values a group lie on a grid of sixteen only as the initialization finds it; training must not make
  // it worse than two bits made it.
  EXPECT_LT(std::abs(std::log(stage(report, "e2e_qp")["ppl"].get<double>() /
                              stage(report, "fp")["ppl"].get<double>())),
            0.1);
}

TEST(QuantizeModel, DoesNothingWhenTheResultIsThere) {
  const TinyRun run;
  const ordered_json first = quantize_model(run.request());
  const auto written = std::filesystem::last_write_time(run.path("out") / "model.safetensors");
  EXPECT_EQ(quantize_model(run.request()), first);
  EXPECT_EQ(std::filesystem::last_write_time(run.path("out") / "model.safetensors"), written);

  QuantizeRequest request = run.request();
  request.mode = ResumeMode::kRestart;
  quantize_model(request);
  EXPECT_NE(std::filesystem::last_write_time(run.path("out") / "model.safetensors"), written);

  // Same names, other contents: neither a changed model nor a changed text may give the old result.
  const std::string before = run.weights();
  run.rewrite("model.layers.0.mlp.up_proj.weight", 5, 0.75F);
  quantize_model(run.request());
  EXPECT_NE(run.weights(), before);
  request = run.request("text");
  request.calib_spec = run.path("text.txt");
  quantize_model(request);
  const std::string text_before = run.weights("text");
  std::ofstream(run.path("text.txt"), std::ios::app) << test::file_bytes(run.path("model") / "config.json");
  quantize_model(request);
  EXPECT_NE(run.weights("text"), text_before);
}

TEST(QuantizeModel, EndsARunWhoseOutputWasAlreadyInPlace) {
  const TinyRun run;
  const ordered_json report = quantize_model(run.request());
  // As if the process had been killed between the output's rename and the end of the run.
  {
    RunDirectory(run.path("out.run"), report["job"], ResumeMode::kAuto)
        .record("calibration", ordered_json::object());
  }
  const auto abandoned = run.path(".out.crumb-tmp-2147483646"),
             other = run.path(".other.crumb-tmp-2147483646"),
             living = run.path(cat(".out.crumb-tmp-", ::getpid()));
  for (const auto& folder : {abandoned, other, living}) std::filesystem::create_directories(folder / "inner");
  EXPECT_EQ(quantize_model(run.request()), report);
  EXPECT_FALSE(std::filesystem::exists(run.path("out.run")));
  EXPECT_FALSE(std::filesystem::exists(abandoned));
  EXPECT_TRUE(std::filesystem::exists(other));
  EXPECT_TRUE(std::filesystem::exists(living));
}

}  // namespace
}  // namespace crumb::pipeline
