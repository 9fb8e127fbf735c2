#include "pipeline/run_directory.h"

#include <gtest/gtest.h>

#include <fstream>

#include "io/atomic_output.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::pipeline {
namespace {

using nlohmann::ordered_json;

const ordered_json kJob = {{"recipe", {{"bits", 2}, {"lr", 1e-4}}}, {"threads", 2}};

TEST(RunDirectory, RemembersWhatWasRecorded) {
  const test::TempDir folder;
  {
    RunDirectory run(folder / "run", kJob, ResumeMode::kAuto);
    EXPECT_FALSE(run.resumed());
    run.record("block", {{"block", 0}, {"loss", 0.5}});
    run.record("block", {{"block", 1}, {"loss", 0.25}});
    EXPECT_FALSE(run.resumed()) << "what this process records is not an earlier one's";
  }
  RunDirectory run(folder / "run", kJob, ResumeMode::kResume);
  EXPECT_TRUE(run.resumed());
  ASSERT_TRUE(run.find("block", {{"block", 1}}));
  EXPECT_EQ(run.find("block", {{"block", 1}})->at("loss"), 0.25);
  EXPECT_FALSE(run.find("block", {{"block", 2}}));
}

TEST(RunDirectory, IgnoresATornLastLineAndGoesOnAfterIt) {
  const test::TempDir folder;
  { RunDirectory(folder / "run", kJob, ResumeMode::kAuto).record("block", {{"block", 0}}); }
  std::ofstream(folder / "run" / "journal.jsonl", std::ios::app) << R"({"event": "block", "blo)";
  {
    RunDirectory run(folder / "run", kJob, ResumeMode::kAuto);
    EXPECT_TRUE(run.find("block", {{"block", 0}}));
    run.record("block", {{"block", 1}});
  }
  RunDirectory run(folder / "run", kJob, ResumeMode::kAuto);
  EXPECT_TRUE(run.find("block", {{"block", 0}}));
  EXPECT_TRUE(run.find("block", {{"block", 1}}));
}

TEST(RunDirectory, RefusesAnotherJobNamingTheDifference) {
  const test::TempDir folder;
  { RunDirectory(folder / "run", kJob, ResumeMode::kAuto).record("block", {{"block", 0}}); }
  ordered_json other = kJob;
  other["recipe"]["lr"] = 2e-4;
  test::expect_error(ErrorKind::kInvalidArgument, {"recipe.lr", "--restart"},
                     [&] { RunDirectory(folder / "run", other, ResumeMode::kAuto); });
  RunDirectory run(folder / "run", other, ResumeMode::kRestart);
  EXPECT_FALSE(run.resumed());
}

TEST(RunDirectory, TakesAnotherJobWhenNothingWasFinished) {
  const test::TempDir folder;
  { RunDirectory(folder / "run", kJob, ResumeMode::kAuto); }
  ordered_json other = kJob;
  other["threads"] = 3;
  { RunDirectory(folder / "run", other, ResumeMode::kAuto).record("block", {{"block", 0}}); }
  test::expect_error(ErrorKind::kInvalidArgument, {"threads"},
                     [&] { RunDirectory(folder / "run", kJob, ResumeMode::kAuto); });
}

TEST(RunDirectory, RefusesASecondProcess) {
  const test::TempDir folder;
  RunDirectory first(folder / "run", kJob, ResumeMode::kAuto);
  test::expect_error(ErrorKind::kInvalidArgument, {"another process", "pid"},
                     [&] { RunDirectory(folder / "run", kJob, ResumeMode::kAuto); });
}

TEST(RunDirectory, ResumeWantsSomethingToGoOnWith) {
  const test::TempDir folder;
  test::expect_error(ErrorKind::kNotFound, {"no run to go on with"},
                     [&] { RunDirectory(folder / "run", kJob, ResumeMode::kResume); });
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(RunDirectory, NoticesAFileThatChanged) {
  const test::TempDir folder;
  RunDirectory run(folder / "run", kJob, ResumeMode::kAuto);
  io::write_text_atomically(folder / "run" / "block", "codes");
  const ordered_json event = run.describe_file("block");
  EXPECT_EQ(run.verified_file(event), folder / "run" / "block");
  io::write_text_atomically(folder / "run" / "block", "codez");
  test::expect_error(ErrorKind::kCorrupt, {"changed", "--restart"}, [&] { run.verified_file(event); });
}

TEST(RunDirectory, KeepsItsHandsOffOtherFiles) {
  const test::TempDir folder;
  std::filesystem::create_directories(folder / "home");
  io::write_text_atomically(folder / "home" / "letter.txt", "dear");
  for (const ResumeMode mode : {ResumeMode::kAuto, ResumeMode::kRestart}) {
    test::expect_error(ErrorKind::kInvalidArgument, {"letter.txt", "--run-dir"},
                       [&] { RunDirectory(folder / "home", kJob, mode); });
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "home" / "lock"));
  // Put there during the run: it stays, and so does its folder.
  {
    RunDirectory run(folder / "run", kJob, ResumeMode::kAuto);
    io::write_text_atomically(folder / "run" / "block_00000.safetensors", "codes");
    io::write_text_atomically(folder / "run" / "letter.txt", "dear");
  }
  EXPECT_FALSE(RunDirectory(folder / "run", kJob, ResumeMode::kRestart).resumed());
  EXPECT_FALSE(std::filesystem::exists(folder / "run" / "block_00000.safetensors"));
  RunDirectory(folder / "run", kJob, ResumeMode::kAuto).remove();
  EXPECT_TRUE(std::filesystem::exists(folder / "run" / "letter.txt"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run" / "run.json"));
  RunDirectory(folder / "empty", kJob, ResumeMode::kAuto).remove();
  EXPECT_FALSE(std::filesystem::exists(folder / "empty"));
}

}  // namespace
}  // namespace crumb::pipeline
