// The program, ended at many moments: the same command gives the bytes of an undisturbed run.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <thread>

#include "pipeline/tiny_run.h"

namespace crumb {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// A running `crumb`.
class Program {
 public:
  Program(std::vector<std::string> arguments, std::filesystem::path log) : log_(std::move(log)) {
    arguments.insert(arguments.begin(), CRUMB_BINARY);
    std::vector<char*> argv;
    for (std::string& word : arguments) argv.push_back(word.data());
    argv.push_back(nullptr);
    child_ = fork();
    if (child_ == 0) {
      dup2(open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
      dup2(open("/dev/null", O_WRONLY), 1);
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Program() {
    if (!ended_) {
      ::kill(child_, SIGKILL);
      wait();
    }
  }
  void signal(int number) const { ::kill(child_, number); }
  bool running() {
    if (!ended_ && waitpid(child_, &status_, WNOHANG) == child_) ended_ = true;
    return !ended_;
  }
  /// Exit code; minus the signal that ended it.
  int wait() {
    if (!ended_) waitpid(child_, &status_, 0);
    ended_ = true;
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
  }
  std::string log() const { return test::file_bytes(log_); }

 private:
  std::filesystem::path log_;
  pid_t child_ = 0;
  int status_ = 0;
  bool ended_ = false;
};

// The moments at which a run is ended: the journal holds an event, and the steps after it are under way.
struct Moment {
  const char* name;
  const char* event;    // a piece of the journal's line
  bool step_after;      // a line of metrics.jsonl after it, too
  const char* not_yet;  // what the journal must not hold when the program has ended
};

class InterruptedRun : public ::testing::Test {
 protected:
  static test::TinyModel model() {
    test::TinyModel model;
    model.blocks = 3;
    return model;
  }

  static void SetUpTestSuite() {
    run_ = std::make_unique<test::TinyRun>(model());
    Program program(arguments("undisturbed"), run_->path("undisturbed.log"));
    ASSERT_EQ(program.wait(), 0) << program.log();
    expected_ = run_->weights("undisturbed");
  }
  static void TearDownTestSuite() { run_.reset(); }
  void TearDown() override {
    for (const char* name : {"out", "out.run"}) std::filesystem::remove_all(run_->path(name));
  }

  // Enough epochs and steps that every stage takes some hundred milliseconds.
  static std::vector<std::string> arguments(const std::string& output) {
    std::vector<std::string> words = {"quantize",
                                      run_->path("model"),
                                      "-o",
                                      run_->path(output),
                                      "--calib",
                                      run_->path("tokens.safetensors"),
                                      "--eval",
                                      run_->path("tokens.safetensors").string() + ":val",
                                      "--eval-context",
                                      "32",
                                      "--device",
                                      "cpu",
                                      "--threads",
                                      "1"};
    for (const char* set :
         {"calibration.samples=8", "calibration.validation_samples=2", "calibration.tokens=32",
          "block_ap.epochs=60", "block_ap.precision=f32", "e2e_qp.precision=f32", "e2e_qp.samples=4",
          "e2e_qp.tokens=32", "e2e_qp.steps=400"}) {
      words.insert(words.end(), {"--set", set});
    }
    return words;
  }
  static std::unique_ptr<Program> start(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = arguments("out");
    words.insert(words.end(), more.begin(), more.end());
    return std::make_unique<Program>(words, run_->path("out.log"));
  }
  static std::string journal() { return test::file_bytes(run_->path("out.run") / "journal.jsonl"); }
  static std::string metrics() { return test::file_bytes(run_->path("out.run") / "metrics.jsonl"); }

  static void wait_for(Program& program, const Moment& moment) {
    while (journal().find(moment.event) == std::string::npos) {
      ASSERT_TRUE(program.running()) << "ended before " << moment.event << ": " << program.log();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    const std::size_t seen = metrics().size();
    while (moment.step_after && metrics().size() == seen) {
      ASSERT_TRUE(program.running()) << "ended in the step after " << moment.event << ": " << program.log();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  static void expect_the_undisturbed_result() {
    const auto program = start();
    ASSERT_EQ(program->wait(), 0) << program->log();
    EXPECT_TRUE(run_->weights() == expected_) << "other bytes than an undisturbed run";
    EXPECT_FALSE(std::filesystem::exists(run_->path("out.run")));
    const json report = json::parse(test::file_bytes(run_->path("out") / "crumb_report.json"));
    const json undisturbed = json::parse(test::file_bytes(run_->path("undisturbed") / "crumb_report.json"));
    EXPECT_EQ(report["e2e_qp"]["losses"], undisturbed["e2e_qp"]["losses"]);
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_EQ(report["blocks"][i]["losses"], undisturbed["blocks"][i]["losses"]) << i;
    for (const auto& name : test::names_in(run_->folder()))
      EXPECT_THAT(name, Not(HasSubstr("crumb-tmp"))) << "litter";
  }

  static constexpr Moment kMoments[] = {
      {"at the start", "calibration", false, "\"block\""},
      {"in block 0", R"("stage":"rtn")", true, R"("block":0)"},
      {"in block 1", R"("block":0)", true, R"("block":1)"},
      {"after the last block", R"("block":2)", false, "e2e_done"},
      {"in E2E-QP", R"("stage":"block_ap")", true, "e2e_done"},
  };

  static inline std::unique_ptr<test::TinyRun> run_;
  static inline std::string expected_;
};

TEST_F(InterruptedRun, GivesTheSameBytesAfterAKillAtAnyMoment) {
  for (const Moment& moment : kMoments) {
    SCOPED_TRACE(moment.name);
    const auto program = start();
    wait_for(*program, moment);
    if (HasFatalFailure()) return;
    program->signal(SIGKILL);
    ASSERT_EQ(program->wait(), -SIGKILL);
    EXPECT_THAT(journal(), HasSubstr(moment.event));
    EXPECT_THAT(journal(), Not(HasSubstr(moment.not_yet))) << "killed too late to show anything";
    EXPECT_FALSE(std::filesystem::exists(run_->path("out")));
    expect_the_undisturbed_result();
    TearDown();
  }
}

TEST_F(InterruptedRun, GoesOnInTheMiddleOfEveryMethod) {
  const std::vector<std::string> cases[] = {
      {"stages=gptq"},
      {"stages=awq,e2e_qp"},
      {"stages=awq,gptq,block_ap", "block_ap.epochs=8"},
      {"stages=signround", "signround.iterations=60"},
      {"stages=smoothquant,rounding", "activations.bits=8"},
      {"stages=smoothquant,gptq", "activations.bits=8", "activations.granularity=per_tensor"},
      {"stages=omniquant", "omniquant.let=true", "omniquant.epochs=8", "activations.bits=4",
       "activations.kv_bits=4"}};
  for (const std::vector<std::string>& sets : cases) {
    SCOPED_TRACE(sets.front());
    std::vector<std::string> more;
    for (const std::string& set : sets) more.insert(more.end(), {"--set", set});
    std::filesystem::remove_all(run_->path("whole"));
    std::vector<std::string> words = arguments("whole");
    words.insert(words.end(), more.begin(), more.end());
    Program whole(words, run_->path("whole.log"));
    ASSERT_EQ(whole.wait(), 0) << whole.log();

    const auto program = start(more);
    wait_for(*program, {"", R"("block":0)", false, ""});
    if (HasFatalFailure()) return;
    program->signal(SIGKILL);
    ASSERT_EQ(program->wait(), -SIGKILL) << "it was over too soon to be killed";
    const auto again = start(more);
    ASSERT_EQ(again->wait(), 0) << again->log();
    EXPECT_THAT(again->log(), HasSubstr("going on with the run"));
    EXPECT_TRUE(run_->weights() == run_->weights("whole")) << "other bytes than an undisturbed run";
    const json report = json::parse(test::file_bytes(run_->path("out") / "crumb_report.json"));
    EXPECT_EQ(report["blocks"].size(), 3u);
    EXPECT_TRUE(report["total"]["resumed"].get<bool>());
    TearDown();
  }
}

TEST_F(InterruptedRun, GivesTheSameBytesAfterManyKills) {
  int kills = 0;
  for (int milliseconds = 150; kills < 40; milliseconds += 90, ++kills) {
    const auto program = start();
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    while (program->running() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (!program->running()) {
      ASSERT_EQ(program->wait(), 0) << program->log();
      break;
    }
    program->signal(SIGKILL);
    program->wait();
  }
  EXPECT_GT(kills, 3);
  expect_the_undisturbed_result();
}

TEST_F(InterruptedRun, StopsOnCtrlCSayingHowToGoOn) {
  for (const Moment& moment : kMoments) {
    SCOPED_TRACE(moment.name);
    const auto program = start();
    wait_for(*program, moment);
    if (HasFatalFailure()) return;
    program->signal(SIGINT);
    EXPECT_EQ(program->wait(), 130) << program->log();
    EXPECT_THAT(program->log(), HasSubstr("the same command goes on from there"));
    EXPECT_THAT(program->log(), HasSubstr("out.run"));
    EXPECT_THAT(program->log(), Not(HasSubstr("internal")));
    EXPECT_FALSE(std::filesystem::exists(run_->path("out")));
    if (std::string_view(moment.name) == "in E2E-QP") {
      const std::string text = journal();
      const json last = json::parse(text.substr(text.rfind('\n', text.size() - 2) + 1));
      EXPECT_EQ(last["event"], "e2e_checkpoint");
      EXPECT_EQ(last["losses"].size(), last["step"]) << "the steps that were taken are kept";
      EXPECT_GT(last["step"], 0);
      const std::string lines = metrics();
      EXPECT_EQ(static_cast<std::size_t>(std::count(lines.begin(), lines.end(), '\n')),
                3 * 240 + last["losses"].size())
          << "a line a step";
    }
    expect_the_undisturbed_result();
    TearDown();
  }
}

TEST_F(InterruptedRun, GoesOnAfterATornJournal) {
  auto program = start();
  wait_for(*program, {"", R"("block":1)", false, ""});
  if (HasFatalFailure()) return;
  program->signal(SIGKILL);
  program->wait();
  // The last line is cut in its middle, as a power loss does.
  std::filesystem::resize_file(run_->path("out.run") / "journal.jsonl", journal().size() - 30);
  ASSERT_THAT(journal(), Not(::testing::EndsWith("\n")));
  expect_the_undisturbed_result();
}

TEST_F(InterruptedRun, KeepsASecondProcessAway) {
  const auto first = start();
  wait_for(*first, {"", "calibration", false, ""});
  if (HasFatalFailure()) return;
  first->signal(SIGSTOP);
  Program second(arguments("out"), run_->path("second.log"));
  EXPECT_EQ(second.wait(), 2);
  EXPECT_THAT(second.log(), HasSubstr("another process (pid "));
  std::vector<std::string> restart = arguments("out");
  restart.emplace_back("--restart");
  Program third(restart, run_->path("third.log"));
  EXPECT_EQ(third.wait(), 2) << "--restart must not take a run from under another process";
  first->signal(SIGCONT);
  ASSERT_EQ(first->wait(), 0) << first->log();
  EXPECT_TRUE(run_->weights() == expected_);
}

TEST_F(InterruptedRun, RestartsOrInsistsAsAsked) {
  {
    const auto nothing = start({"--resume"});
    EXPECT_EQ(nothing->wait(), 3);
    EXPECT_THAT(nothing->log(), HasSubstr("no run to go on with"));
  }
  const auto program = start();
  wait_for(*program, {"", R"("block":0)", false, ""});
  if (HasFatalFailure()) return;
  program->signal(SIGKILL);
  program->wait();
  const auto again = start({"--restart"});
  ASSERT_EQ(again->wait(), 0) << again->log();
  EXPECT_FALSE(
      json::parse(test::file_bytes(run_->path("out") / "crumb_report.json"))["total"]["resumed"].get<bool>());
  EXPECT_TRUE(run_->weights() == expected_);
}

}  // namespace
}  // namespace crumb
