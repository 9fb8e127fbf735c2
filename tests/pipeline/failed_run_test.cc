// Runs that fail: one sentence, the right kind, earlier output intact, state kept where it helps.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <limits>

#include "formats/checkpoint.h"
#include "pipeline/block_state.h"
#include "pipeline/e2e_checkpoint.h"
#include "pipeline/quantize_model.h"
#include "pipeline/tiny_run.h"
#include "support/expect_error.h"

namespace crumb::pipeline {
namespace {

using nlohmann::ordered_json;
using test::expect_error;
using test::TinyRun;

// No file of this process may grow beyond `bytes` while this lives; as a full disk, the kernel refuses the
// write.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::size_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

// A run whose blocks and scales are finished and whose output could not be written.
void run_into_a_full_disk(const TinyRun& run) {
  const FileSizeLimit limit(
      100'000);  // above every file of the run directory, below the weights of the output
  expect_error(ErrorKind::kIo, {".out.crumb-tmp-", "could not be written"},
               [&] { quantize_model(run.request()); });
}

TEST(FailedRun, LeavesNoHalfOutputOnAFullDiskAndGoesOnLater) {
  const TinyRun run;
  quantize_model(run.request("undisturbed"));
  run_into_a_full_disk(run);
  EXPECT_EQ(test::names_in(run.folder()),
            (std::vector<std::string>{"model", "out.run", "text.txt", "tokens.safetensors", "undisturbed"}));
  const ordered_json report = quantize_model(run.request());
  EXPECT_TRUE(report["total"]["resumed"].get<bool>());
  EXPECT_EQ(run.weights(), run.weights("undisturbed"));
  EXPECT_FALSE(std::filesystem::exists(run.path("out.run")));
}

TEST(FailedRun, StopsWhereTheRunDirectoryCannotGrow) {
  const TinyRun run;
  for (const std::size_t bytes : {std::size_t{600}, std::size_t{6000}}) {
    {
      const FileSizeLimit limit(bytes);
      expect_error(ErrorKind::kIo, {"out.run"}, [&] { quantize_model(run.request()); });
    }
    EXPECT_FALSE(std::filesystem::exists(run.path("out"))) << bytes;
  }
  quantize_model(run.request());
  quantize_model(run.request("undisturbed"));
  EXPECT_EQ(run.weights(), run.weights("undisturbed"));
}

TEST(FailedRun, KeptTheVeryCodesAndScalesThatTheOutputHolds) {
  const TinyRun run;
  run_into_a_full_disk(run);
  const auto model = formats::Checkpoint::open(run.path("model"));
  const quant::AffineSpec spec = run.request().recipe.weights.spec();
  std::vector<formats::PackedBlock> blocks;
  for (const char* name : {"block_00000.safetensors", "block_00001.safetensors"}) {
    blocks.push_back(load_block_state(run.path("out.run") / name, model->config(), spec));
  }
  const auto scales = load_e2e_checkpoint(run.path("out.run") / "e2e_4.safetensors").scales;
  quantize_model(run.request());
  const auto written = formats::Checkpoint::open(run.path("out"));
  std::size_t changed = 0, i = 0;
  for (std::int64_t block = 0; block < 2; ++block) {
    for (const model::LinearRole role : model::kLinearRoles) {
      quant::QuantizedLinear trained =
          blocks[static_cast<std::size_t>(block)].linears[static_cast<std::size_t>(role)];
      const quant::QuantizedLinear found = *written->read_packed(model::linear_name(block, role));
      const std::vector<float> of_block_ap = trained.scales;
      set_scales(trained, scales.at(i++));
      EXPECT_EQ(found.codes, trained.codes) << model::linear_name(block, role);
      EXPECT_EQ(found.zero_points, trained.zero_points) << model::linear_name(block, role);
      EXPECT_EQ(found.scales, trained.scales) << model::linear_name(block, role);
      changed += trained.scales != of_block_ap;
    }
    for (const auto& [name, values] : blocks[static_cast<std::size_t>(block)].floats) {
      EXPECT_EQ(written->read_f32(model::block_prefix(block) + name), values) << name;
    }
  }
  EXPECT_GT(changed, 10u) << "E2E-QP must have moved the scales, or their comparison says nothing";
}

TEST(FailedRun, RefusesWeightsThatAreNotNumbersAndKeepsTheEarlierOutput) {
  const TinyRun run;
  quantize_model(run.request());
  const std::string before = run.weights();
  run.rewrite("model.layers.1.mlp.up_proj.weight", 7, std::numeric_limits<float>::quiet_NaN());
  QuantizeRequest request = run.request();
  for (const std::string& eval : {request.eval_spec, std::string()}) {
    request.eval_spec = eval;
    expect_error(ErrorKind::kNumerics, {"model.layers.1.mlp.up_proj.weight", "7"},
                 [&] { quantize_model(request); });
    EXPECT_EQ(run.weights(), before);
    std::filesystem::remove_all(run.path("out.run"));
  }
}

TEST(FailedRun, TriesABlockThreeTimesWithHalvedLearningRates) {
  const TinyRun run;
  QuantizeRequest request = run.request();
  request.recipe.block_ap.weight_lr = request.recipe.block_ap.quant_lr = 1e6;
  expect_error(ErrorKind::kNumerics, {"block 0", "3 attempts", "weight_lr"},
               [&] { quantize_model(request); });
  EXPECT_FALSE(std::filesystem::exists(run.path("out")));
  EXPECT_TRUE(std::filesystem::exists(run.path("out.run") / "journal.jsonl")) << "what is finished is kept";
}

TEST(FailedRun, ReportsThatABlockNeededLowerLearningRates) {
  test::TinyModel model;
  model.blocks = 1;
  const TinyRun run(model);
  QuantizeRequest request = run.request();
  // Between 500 and 1000 the products of this block's weights pass what f32 holds.
  request.recipe.block_ap.weight_lr = request.recipe.block_ap.quant_lr = 1000;
  request.recipe.stages.pop_back();  // e2e_qp
  request.eval_spec = "";
  const ordered_json row = quantize_model(request)["blocks"][0];
  EXPECT_LT(row["lr_factor"].get<double>(), 1);
  EXPECT_EQ(row["losses"].size(), 8u);
  for (const auto& loss : row["losses"]) EXPECT_TRUE(loss.is_number() && std::isfinite(loss.get<double>()));
}

TEST(FailedRun, RefusesABlockFileThatChanged) {
  const TinyRun run;
  run_into_a_full_disk(run);
  const auto file = run.path("out.run") / "block_00001.safetensors";
  std::string bytes = test::file_bytes(file);
  bytes[bytes.size() / 2] ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
  expect_error(ErrorKind::kCorrupt, {"block_00001.safetensors", "--restart"},
               [&] { quantize_model(run.request()); });
  std::filesystem::remove(file);
  expect_error(ErrorKind::kCorrupt, {"block_00001.safetensors", "missing"},
               [&] { quantize_model(run.request()); });
  QuantizeRequest request = run.request();
  request.mode = ResumeMode::kRestart;
  EXPECT_FALSE(quantize_model(request)["total"]["resumed"].get<bool>());
}

TEST(FailedRun, RefusesAnotherJobNamingTheField) {
  const TinyRun run;
  run_into_a_full_disk(run);
  QuantizeRequest request = run.request();
  request.recipe.block_ap.weight_lr = 3e-5;
  expect_error(ErrorKind::kInvalidArgument, {"recipe.block_ap.weight_lr", "3e-05", "--restart"},
               [&] { quantize_model(request); });
  request = run.request();
  request.threads = 2;
  expect_error(ErrorKind::kInvalidArgument, {"threads", "this job 2", "there 1"},
               [&] { quantize_model(request); });
  request = run.request();
  request.recipe.performance.logits_chunk_tokens = 8;  // speed and memory only: the same job
  EXPECT_TRUE(quantize_model(request)["total"]["resumed"].get<bool>());
}

TEST(FailedRun, TouchesNoFolderThatIsNotItsOwn) {
  const TinyRun run;
  std::filesystem::create_directories(run.path("out"));
  std::ofstream(run.path("out") / "thesis.txt") << "years of work";
  QuantizeRequest request = run.request();
  for (const ResumeMode mode : {ResumeMode::kAuto, ResumeMode::kRestart}) {
    request.mode = mode;
    expect_error(ErrorKind::kInvalidArgument, {"not a result of crumb", "-o"},
                 [&] { quantize_model(request); });
  }
  request.output = run.path("new");
  for (const char* run_dir : {"out", "model", "text.txt"}) {
    request.run_dir = run.path(run_dir);
    expect_error(ErrorKind::kInvalidArgument, {run_dir, "--run-dir"}, [&] { quantize_model(request); });
  }
  request.run_dir = run.path("new") / "run";
  expect_error(ErrorKind::kInvalidArgument, {"lies in the output"}, [&] { quantize_model(request); });
  request = run.request("model");
  expect_error(ErrorKind::kInvalidArgument, {"is the model itself"}, [&] { quantize_model(request); });
  EXPECT_EQ(test::file_bytes(run.path("out") / "thesis.txt"), "years of work");
  EXPECT_EQ(test::names_in(run.folder()),
            (std::vector<std::string>{"model", "out", "text.txt", "tokens.safetensors"}));
}

TEST(FailedRun, SaysWhatDoesNotFitTheModel) {
  const TinyRun run;
  QuantizeRequest request = run.request();
  request.recipe.weights.group_size = 48;
  expect_error(ErrorKind::kInvalidArgument, {"48"}, [&] { quantize_model(request); });
  request = run.request();
  request.recipe.calibration.samples = 64;
  expect_error(ErrorKind::kInvalidArgument, {"tokens.safetensors", "8 windows", "64"},
               [&] { quantize_model(request); });
  request = run.request("long");
  request.recipe.calibration.tokens = 512;
  expect_error(ErrorKind::kInvalidArgument, {"calibration.tokens", "512", "256"},
               [&] { quantize_model(request); });
  request = run.request("short");
  request.calib_spec = run.path("short.txt");
  test::write_tiny_text(run.path("short.txt"), 40);
  expect_error(ErrorKind::kInvalidArgument, {"short.txt"}, [&] { quantize_model(request); });
  request = run.request("absent");
  request.calib_spec = run.path("absent.txt");
  expect_error(ErrorKind::kNotFound, {"absent.txt"}, [&] { quantize_model(request); });
}

TEST(FailedRun, RefusesBeforeItStartsWhatCannotFitIntoMemory) {
  const TinyRun run;
  QuantizeRequest request = run.request();
  request.recipe.calibration.samples = request.recipe.calibration.validation_samples =
      request.recipe.block_ap.batch = 100'000'000;
  expect_error(ErrorKind::kOutOfMemory, {"are available", "block_ap.batch", "activation_ram_limit_bytes"},
               [&] { quantize_model(request); });
  EXPECT_FALSE(std::filesystem::exists(run.path("out.run")));
}

TEST(FailedRun, RefusesTheTokenizerOfAnotherModel) {
  test::TinyModel model;
  model.vocabulary = 100;  // the tokenizer has an id for each byte
  model.changes = {{"bos_token_id", 1}, {"eos_token_id", 2}};
  const TinyRun run(model);
  QuantizeRequest request = run.request();
  request.calib_spec = run.path("text.txt");
  request.eval_spec = "";
  expect_error(ErrorKind::kInvalidArgument, {"text.txt", "vocabulary is 100"},
               [&] { quantize_model(request); });
}

}  // namespace
}  // namespace crumb::pipeline
