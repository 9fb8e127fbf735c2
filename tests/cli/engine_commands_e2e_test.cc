// run, chat and bench from outside, on packed and float models of random weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/run_program.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

namespace crumb {
namespace {

using nlohmann::json;
using test::Ran;
using test::run_program;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class EngineCommands : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = (folder_ / "model").string();
    test::write_tiny_model(model_);
    std::ofstream(folder_ / "plain.jinja")
        << "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]";
  }
  static json parse(const Ran& ran) {
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    return json::parse(ran.out);
  }
  /// An error is one sentence and nothing on standard output.
  static void expect_error(const Ran& ran, int exit_code, const std::string& words) {
    EXPECT_EQ(ran.exit_code, exit_code) << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_THAT(ran.err, AllOf(StartsWith("error: ["), HasSubstr(words)));
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
  }
  std::vector<std::string> run(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"run", model_, "-p", "Hello", "-n", "12", "--threads", "1", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::vector<std::string> chat(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {
        "chat",      model_, "--chat-template", (folder_ / "plain.jinja").string(),
        "-n",        "6",    "--temperature",   "0",
        "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  /// The answers of `chat --json`, one a line.
  static std::vector<json> lines(const Ran& ran) {
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    std::vector<json> out;
    std::istringstream text(ran.out);
    for (std::string line; std::getline(text, line);) out.push_back(json::parse(line));
    return out;
  }

  test::TempDir folder_;
  std::string model_;
};

TEST_F(EngineCommands, RunRepeatsWithTheSeedAndReportsItsTimes) {
  const json first = parse(run_program(run({"--temperature", "1", "--top-p", "1", "--seed", "3"})));
  const json again = parse(run_program(run({"--temperature", "1", "--top-p", "1", "--seed", "3"})));
  const json other = parse(run_program(run({"--temperature", "1", "--top-p", "1", "--seed", "4"})));
  EXPECT_EQ(first["tokens"], again["tokens"]);
  EXPECT_NE(first["tokens"], other["tokens"]);
  EXPECT_EQ(first["prompt_tokens"], 5);
  EXPECT_GT(first["prompt_tokens_per_second"].get<double>(), 0);
  EXPECT_GT(first["decode_tokens_per_second"].get<double>(), 0);
  EXPECT_GT(first["load"]["seconds"].get<double>(), 0);
  for (const char* key : {"weight_bytes", "kv_bytes", "buffer_bytes", "peak_rss_bytes"})
    EXPECT_GT(first["memory"][key].get<std::int64_t>(), 0) << key;
}

TEST_F(EngineCommands, RunPrintsThePromptAndWhatFollows) {
  const Ran text = run_program({"run", model_, "-p", "Hello", "-n", "4", "--threads", "1"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.out, StartsWith("Hello"));
  EXPECT_THAT(text.out, ::testing::EndsWith("\n"));
}

TEST_F(EngineCommands, SamplerOptionsReachTheSampler) {
  // At temperature 0 min-p changes nothing; a large penalty keeps any token from coming twice.
  const json penalized = parse(run_program(run({"--temperature", "0", "--repetition-penalty", "1000"})));
  std::vector<int> tokens = penalized["tokens"];
  std::sort(tokens.begin(), tokens.end());
  EXPECT_EQ(std::adjacent_find(tokens.begin(), tokens.end()), tokens.end());
  const json greedy = parse(run_program(run({"--temperature", "0"}))),
             nearly = parse(run_program(run({"--temperature", "1", "--top-p", "1", "--min-p", "1"})));
  EXPECT_EQ(greedy["tokens"], nearly["tokens"]);
}

TEST_F(EngineCommands, RunWithChatUsesTheTemplate) {
  const json raw = parse(run_program(run({}))),
             told = parse(run_program(run(
                 {"--chat", "--chat-template", (folder_ / "plain.jinja").string(), "--system", "Be brief"})));
  EXPECT_EQ(raw["prompt_tokens"], 5);
  EXPECT_EQ(told["prompt_tokens"],
            static_cast<int>(std::string("[system]Be brief[user]Hello[assistant]").size()));
}

TEST_F(EngineCommands, ChatKeepsTheConversationAndReusesItsPrefix) {
  const auto answers = lines(run_program(chat({"--json"}), "", CRUMB_BINARY, "Hi\nAgain\n/clear\nHi\n"));
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0]["prompt_tokens"], static_cast<int>(std::string("[user]Hi[assistant]").size()));
  EXPECT_EQ(answers[0]["reused_tokens"], 0);
  EXPECT_GT(answers[1]["prompt_tokens"], answers[0]["prompt_tokens"]);
  EXPECT_GE(answers[1]["reused_tokens"], answers[0]["prompt_tokens"]);
  EXPECT_EQ(answers[2]["content"], answers[0]["content"]) << "/clear must forget what was said";
  EXPECT_EQ(answers[2]["tokens"], answers[0]["tokens"]);
}

TEST_F(EngineCommands, ChatPrintsAnswersAlone) {
  const Ran ran = run_program(chat(), "", CRUMB_BINARY, "Hi\n\n/exit\nnever read\n");
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  const auto answers = lines(run_program(chat({"--json"}), "", CRUMB_BINARY, "Hi\n"));
  EXPECT_EQ(ran.out, answers.at(0)["content"].get<std::string>() + "\n");
}

TEST_F(EngineCommands, ChatSaysWhenTheContextIsFull) {
  const Ran ran = run_program(chat({"--context", "24", "--json"}), "", CRUMB_BINARY, "Hi\nAnother one\n");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("the context is 24"), HasSubstr("/clear")));
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << "the answer before it is there";
}

TEST_F(EngineCommands, SynthesizedModelsRun) {
  const std::string packed = (folder_ / "packed").string();
  const json made = parse(run_program(
      {"bench", "synthesize", "--shape", "135m", "--bits", "3", "--blocks", "1", "-o", packed, "--json"}));
  EXPECT_EQ(made["scheme"], "w3g64");
  const json measured = parse(run_program(
      {"bench", packed, "--prompt", "8", "--gen", "4", "--rounds", "2", "--threads", "1", "--json"}));
  EXPECT_GT(measured["prompt_tokens_per_second"].get<double>(), 0);
  EXPECT_GT(measured["decode_tokens_per_second"].get<double>(), 0);
  EXPECT_EQ(measured["decode_all"].size(), 2u);
  EXPECT_EQ(measured["threads"], 1);
  expect_error(run_program({"bench", "synthesize", "--shape", "135m", "-o", packed}), 2, "is there already");
  expect_error(run_program({"run", packed, "-p", "x"}), 3, "tokenizer");
}

TEST_F(EngineCommands, SynthesizedModelsRoundActivationsAsTheySay) {
  const std::string packed = (folder_ / "packed").string();
  const std::vector<std::string> make = {"bench",     "synthesize", "--shape", "135m",     "--bits",
                                         "8",         "--group",    "-1",      "--blocks", "1",
                                         "--kv-bits", "8",          "-o",      packed,     "--json"};
  const auto with = [&](const char* bits) {
    std::vector<std::string> all = make;
    all.insert(all.end(), {"--act-bits", bits});
    return all;
  };
  expect_error(run_program(with("9")), 2, "of 9 bits");
  parse(run_program(with("8")));
  const json measured = parse(run_program(
      {"bench", packed, "--prompt", "8", "--gen", "2", "--rounds", "1", "--threads", "1", "--json"}));
  EXPECT_THAT(measured["description"].get<std::string>(), HasSubstr("a8kv8 int8 activations, cache int8"));
}

TEST_F(EngineCommands, ThePacedBenchMakesARoundALine) {
  const Ran ran = run_program({"bench", model_, "--prompt", "8", "--gen", "4", "--threads", "1", "--paced"},
                              "", CRUMB_BINARY, "\n\n\n");
  const auto rounds = lines(ran);
  ASSERT_EQ(rounds.size(), 4u);
  EXPECT_GT(rounds[0]["decode_tokens_per_second"].get<double>(), 0);
  EXPECT_EQ(rounds[3]["rounds"], 3);
  EXPECT_EQ(rounds[3]["prompt_all"][1], rounds[1]["prompt_tokens_per_second"]);
}

TEST_F(EngineCommands, KernelRowsHaveTheirFields) {
  const json out = parse(run_program({"bench", "kernels", "--bits", "2", "--shape", "64x576", "--m", "1,4",
                                      "--megabytes", "1", "--rounds", "1", "--json"}));
  ASSERT_GE(out["rows"].size(), 2u);
  for (const json& row : out["rows"]) {
    EXPECT_EQ(row["bits"], 2);
    EXPECT_EQ(row["shape"], "64x576");
    EXPECT_GT(row["gbps"].get<double>(), 0);
    EXPECT_GT(row["read_gbps"].get<double>(), 0);
    // A median over rounds: no quotient of the two above, least of all on a busy machine.
    EXPECT_GT(row["fraction_of_bandwidth"].get<double>(), 0);
  }
}

TEST_F(EngineCommands, RooflinePredictsFromGivenFigures) {
  const auto predict = [&](const std::string& bandwidth) {
    return parse(run_program({"roofline", "1b", "--bits", "2", "--bandwidth", bandwidth, "--gops", "100000",
                              "--flops", "100000", "--threads", "1", "--json"}));
  };
  const json slow = predict("10"), fast = predict("20");
  EXPECT_EQ(slow["machine"]["read_gbps"], 10);
  EXPECT_NEAR(fast["decode_tokens_per_second"].get<double>() / slow["decode_tokens_per_second"].get<double>(),
              2, 1e-6);
  EXPECT_THAT(slow["decode_bound"].get<std::string>(), HasSubstr("bandwidth"));
  const std::string plot = (folder_ / "plot.svg").string();
  const Ran text = run_program(
      {"roofline", model_, "--bandwidth", "10", "--gops", "100", "--flops", "100", "--plot", plot});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr("decode"), HasSubstr("block linears"), HasSubstr("f32")));
  EXPECT_TRUE(std::filesystem::exists(plot));
  expect_error(run_program({"roofline", "2b"}), 3, "135m");
  expect_error(run_program({"roofline", "1b", "--bandwidth", "-1"}), 2, "--bandwidth");
  expect_error(run_program({"roofline", "1b", "--bits", "5"}), 2, "--bits");
}

TEST_F(EngineCommands, EvalMeasuresPackedModelsOnTheEngine) {
  const std::string packed = (folder_ / "packed").string(),
                    tokens = (folder_ / "tokens.safetensors").string();
  test::write_tiny_tokens(tokens);
  ASSERT_EQ(
      run_program({"bench", "synthesize", "--shape", "135m", "--bits", "4", "--blocks", "1", "-o", packed})
          .exit_code,
      0);
  const auto eval = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"eval",      packed, "--tokens", tokens + ":val",
                                      "--threads", "1",    "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return parse(run_program(words));
  };
  const json rounded = eval({}), exact = eval({"--exact"});
  EXPECT_THAT(rounded["description"].get<std::string>(), HasSubstr("int8 activations"));
  EXPECT_THAT(exact["description"].get<std::string>(), HasSubstr("exact f32 activations"));
  EXPECT_NE(rounded["nll"], exact["nll"]) << "rounded activations must leave a trace";
  EXPECT_NEAR(rounded["ppl"].get<double>() / exact["ppl"].get<double>(), 1, 0.005);
}

TEST_F(EngineCommands, EachRefusalIsOneSentenceOfItsKind) {
  expect_error(run_program(run({"--threads", "0"})), 2, "--threads");
  expect_error(run_program(run({"--threads", "1000"})), 2, "--threads");
  expect_error(run_program(run({"--top-p", "2"})), 2, "top_p");
  expect_error(run_program(run({"--min-p", "-1"})), 2, "min_p");
  expect_error(run_program(run({"--repetition-penalty", "0"})), 2, "repetition_penalty");
  expect_error(run_program(run({"--kv-cache", "int2"})), 2, "int2");
  expect_error(run_program(run({"--head-bits", "5"})), 2, "--head-bits");
  expect_error(run_program(run({"--system", "x"})), 2, "--chat");
  expect_error(run_program(run({"--chat"})), 3, "chat template");
  expect_error(run_program({"run", (folder_ / "absent").string(), "-p", "x"}), 3, "absent");
  expect_error(run_program({"run", model_}), 2, "--prompt");
  expect_error(run_program({"run", model_, "-p", std::string(400, 'x'), "--threads", "1", "--json"}), 2,
               "400 tokens");
  expect_error(run_program(chat({"--context", "100000"})), 2, "--context");
  std::ofstream(folder_ / "bad.jinja") << "{% if %}";
  expect_error(run_program({"chat", model_, "--chat-template", (folder_ / "bad.jinja").string()}), 4,
               "bad.jinja: line 1");
  expect_error(run_program({"bench", model_, "--prompt", "100000"}), 2, "context");
  expect_error(run_program({"bench", model_, "--prompt", "0", "--gen", "0"}), 2, "--gen");
  expect_error(run_program({"bench"}), 2, "model");
  expect_error(run_program({"bench", "kernels", "--shape", "4096"}), 2, "NxK");
  expect_error(run_program({"bench", "kernels", "--isa", "sse9"}), 2, "avx2");
  expect_error(run_program({"bench", "synthesize", "--shape", "9b", "-o", "x"}), 2, "9b");
  std::filesystem::resize_file(model_ + "/model.safetensors", 5000);
  expect_error(run_program(run({})), 4, "model.safetensors");
}

}  // namespace
}  // namespace crumb
