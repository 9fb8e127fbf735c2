// quantize, eval and generate from outside, on a model of random weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/str.h"
#include "cli/run_program.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

namespace crumb {
namespace {

using nlohmann::json;
using test::Ran;
using test::run_program;
using ::testing::HasSubstr;

class Commands : public ::testing::Test {
 protected:
  void SetUp() override {
    const Ran doctor = run_program({"doctor", "--json"});
    if (!json::parse(doctor.out)["torch"]["present"].get<bool>()) GTEST_SKIP() << "this build has no torch";
    model_ = (folder_ / "model").string();
    tokens_ = (folder_ / "tokens.safetensors").string();
    out_ = (folder_ / "out").string();
    test::write_tiny_model(model_);
    test::write_tiny_tokens(tokens_);
  }

  Ran quantize(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "quantize",       model_, "-o",       out_,  "--calib",   tokens_, "--eval", tokens_ + ":val",
        "--eval-context", "32",   "--device", "cpu", "--threads", "1",     "--json"};
    for (const char* set :
         {"calibration.samples=8", "calibration.validation_samples=2", "calibration.tokens=32",
          "e2e_qp.samples=4", "e2e_qp.tokens=32", "e2e_qp.steps=4"}) {
      arguments.insert(arguments.end(), {"--set", set});
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }
  Ran eval(const std::string& model, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"eval",      model, "--tokens", tokens_ + ":val",
                                          "--threads", "1",   "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }

  test::TempDir folder_;
  std::string model_, tokens_, out_;
};

std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST_F(Commands, QuantizeWritesADirectoryWhoseReportAndPerplexityAgreeWithEval) {
  const Ran ran = quantize();
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const json report = json::parse(ran.out);
  EXPECT_EQ(report, json::parse(file_text(out_ + "/crumb_report.json")));
  EXPECT_TRUE(json::parse(file_text(out_ + "/config.json")).contains("quantization_config"));
  EXPECT_TRUE(std::filesystem::exists(out_ + "/tokenizer.json"));

  json rows;
  for (const auto& row : report["stages"]) rows[row["stage"].get<std::string>()] = row;
  for (const char* stage : {"fp", "block_ap", "e2e_qp"}) {
    ASSERT_TRUE(rows.contains(stage)) << report["stages"].dump();
    for (const char* key : {"ppl", "bits_per_weight", "file_bytes", "seconds", "peak_rss_bytes"})
      EXPECT_TRUE(rows[stage][key].is_number()) << stage << " " << key;
  }
  // The same windows and weights; only the order of f32 sums may differ (packed products against dequantized
  // ones).
  const json fp = json::parse(eval(model_).out), packed = json::parse(eval(out_, {"--exact"}).out);
  EXPECT_NEAR(fp["ppl"].get<double>() / rows["fp"]["ppl"].get<double>(), 1, 1e-4);
  EXPECT_NEAR(packed["ppl"].get<double>() / rows["e2e_qp"]["ppl"].get<double>(), 1, 1e-4);
  EXPECT_GT(std::abs(packed["nll"].get<double>() - fp["nll"].get<double>()), 1e-3)
      << "two bits must leave a trace, or this compares a model with itself";
  EXPECT_EQ(fp["context"], 32);
  EXPECT_EQ(fp["windows"], 2);
  EXPECT_EQ(fp["tokens"], 62);
}

// As the issue has it: the same inputs, report and outputs whatever the method; budgets cut to a tiny
// model's.
TEST_F(Commands, QuantizeTakesEveryBuiltInRecipe) {
  const json listed = json::parse(run_program({"recipes", "--json"}).out)["recipes"];
  ASSERT_GE(listed.size(), 22u);
  for (const json& recipe : listed) {
    const std::string name = recipe["name"];
    SCOPED_TRACE(name);
    std::filesystem::remove_all(out_);
    const Ran ran =
        quantize({"--recipe", name, "--set", "omniquant.epochs=1", "--set", "signround.iterations=4", "--set",
                  "e2e_qp.batch=1", "--set", "e2e_qp.accumulation=1"});
    ASSERT_EQ(ran.exit_code, 0) << ran.err;
    const json report = json::parse(ran.out), last = report["stages"].back();
    EXPECT_GT(last["ppl"].get<double>(), 1);
    // Where activations are quantized, eval simulates them without being told.
    const bool activations = recipe["activation_bits"] < 16;
    const Ran evaluated = activations ? eval(out_) : eval(out_, {"--exact"});
    ASSERT_EQ(evaluated.exit_code, 0) << evaluated.err;
    EXPECT_NEAR(json::parse(evaluated.out)["ppl"].get<double>() / last["ppl"].get<double>(), 1, 1e-4);
    if (!activations) continue;
    EXPECT_THAT(evaluated.err, HasSubstr("which torch simulates"));
    const Ran engine = eval(out_, {"--engine", "cpu", "--exact"});
    ASSERT_EQ(engine.exit_code, 0) << engine.err;
    // The same rounding in two programs: codes at ties differ where sums were made in another order.
    const json in_engine = json::parse(engine.out);
    EXPECT_NEAR(in_engine["nll"].get<double>(), json::parse(evaluated.out)["nll"].get<double>(), 5e-3);
    EXPECT_THAT(in_engine["description"].get<std::string>(),
                HasSubstr(cat("a", recipe["activation_bits"].get<int>())));
    const Ran text = run_program({"run", out_, "-p", "Hello", "-n", "2", "--threads", "1"});
    EXPECT_EQ(text.exit_code, 0) << text.err;
  }
}

TEST_F(Commands, EvalMeasuresTheDistanceToAReference) {
  const Ran same = eval(model_, {"--reference", model_});
  ASSERT_EQ(same.exit_code, 0) << same.err;
  const json self = json::parse(same.out);
  EXPECT_NEAR(self["kl_mean"].get<double>(), 0, 1e-6);
  EXPECT_EQ(self["top1_agreement"], 1.0);
  ASSERT_EQ(quantize({"--recipe", "rtn-w2g64"}).exit_code, 0);
  const json rounded = json::parse(eval(out_, {"--reference", model_}).out);
  EXPECT_GT(rounded["kl_mean"].get<double>(), 1e-3);
  EXPECT_GE(rounded["kl_p99"].get<double>(), rounded["kl_mean"].get<double>());
  EXPECT_LT(rounded["top1_agreement"].get<double>(), 1.0);
  const json one = json::parse(eval(model_, {"--windows", "1", "--context", "16"}).out);
  EXPECT_EQ(one["tokens"], 15);
}

TEST_F(Commands, GenerateRepeatsWithTheSeed) {
  const auto generate = [&](const std::string& seed) {
    const Ran ran = run_program({"generate", model_, "-p", "Hello", "-n", "12", "--temperature", "1",
                                 "--top-p", "1", "--seed", seed, "--device", "cpu", "--json"});
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    return json::parse(ran.out);
  };
  const json first = generate("3"), again = generate("3"), other = generate("4");
  EXPECT_EQ(first["tokens"], again["tokens"]);
  EXPECT_NE(first["tokens"], other["tokens"]);
  EXPECT_EQ(first["prompt_tokens"], 5);
  EXPECT_LE(first["tokens"].size(), 12u);
  const Ran text = run_program({"generate", model_, "-p", "Hello", "-n", "4", "--device", "cpu"});
  EXPECT_EQ(text.out.substr(0, 5), "Hello");
}

TEST_F(Commands, AFailedRunLeavesTheEarlierOutputIntact) {
  ASSERT_EQ(quantize({"--recipe", "rtn-w2g64"}).exit_code, 0);
  const std::string before = file_text(out_ + "/model.safetensors");
  ASSERT_FALSE(before.empty());
  const Ran group = quantize({"--set", "weights.group_size=48"});
  EXPECT_EQ(group.exit_code, 2);
  EXPECT_EQ(group.out, "");
  EXPECT_THAT(group.err, HasSubstr("48"));
  const Ran samples = quantize({"--set", "calibration.samples=64"});
  EXPECT_EQ(samples.exit_code, 2);
  EXPECT_THAT(samples.err, HasSubstr("8 windows"));
  std::filesystem::resize_file(model_ + "/model.safetensors", 5000);
  EXPECT_EQ(quantize().exit_code, 4);
  EXPECT_EQ(file_text(out_ + "/model.safetensors"), before);
}

TEST_F(Commands, AFolderOfSomethingElseIsNotReplaced) {
  std::filesystem::create_directories(out_);
  std::ofstream(out_ + "/mine.txt") << "keep";
  const Ran ran = quantize();
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.err, HasSubstr("not a result of crumb"));
  EXPECT_EQ(file_text(out_ + "/mine.txt"), "keep");
}

TEST_F(Commands, EachRefusalIsOfItsKind) {
  EXPECT_EQ(eval((folder_ / "absent").string()).exit_code, 3);
  EXPECT_EQ(eval(model_, {"--context", "300"}).exit_code, 2);
  EXPECT_EQ(run_program({"eval", model_, "--tokens", tokens_, "--text", "x"}).exit_code, 2);
  EXPECT_EQ(run_program({"quantize", model_, "-o", out_, "--resume", "--restart"}).exit_code, 2);
  EXPECT_EQ(run_program({"generate", model_, "-p", "x", "--top-p", "2"}).exit_code, 2);
  std::filesystem::remove(model_ + "/tokenizer.json");
  const Ran no_tokenizer = run_program({"generate", model_, "-p", "x"});
  EXPECT_EQ(no_tokenizer.exit_code, 3);
  EXPECT_THAT(no_tokenizer.err, HasSubstr("tokenizer"));
}

}  // namespace
}  // namespace crumb
