// The program from outside: exit codes, one sentence per error, standard output that a script can read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/run_program.h"
#include "cli/utf8_tail.h"
#include "io/safetensors.h"
#include "support/temp_dir.h"

namespace crumb {
namespace {

using test::Ran;
using test::run_program;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// An error is one line on standard error, and nothing on standard output.
void expect_error(const Ran& ran, int exit_code, const std::string& words) {
  EXPECT_EQ(ran.exit_code, exit_code) << ran.err;
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, AllOf(StartsWith("error: ["), HasSubstr(words)));
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
}

TEST(Program, PrintsItsVersion) {
  const Ran ran = run_program({"--version"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_THAT(ran.out, StartsWith("crumb "));
  EXPECT_EQ(ran.err, "");
}

TEST(Program, HelpNamesEveryCommand) {
  const Ran ran = run_program({"--help"});
  EXPECT_EQ(ran.exit_code, 0);
  for (const char* command : {"quantize", "run", "chat", "eval", "generate", "inspect", "export", "import",
                              "recipes", "bench", "roofline", "doctor"})
    EXPECT_THAT(ran.out, HasSubstr(command));
}

TEST(Program, RefusesUnknownWordsWithTheNearestOne) {
  expect_error(run_program({"recipe"}), 2, "did you mean 'recipes'?");
  expect_error(run_program({"inspect", "--jsno", "x"}), 2, "did you mean '--json'?");
  expect_error(run_program({"inspect"}), 2, "path");
}

TEST(Program, WithoutACommandSaysWhatThereIs) {
  const Ran ran = run_program({});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("quantize"));
}

TEST(Program, ReportsAResultThatCannotBeWritten) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const Ran ran = run_program({"recipes", "--json"}, "/dev/full");
  EXPECT_EQ(ran.exit_code, 6);
  EXPECT_THAT(ran.err, HasSubstr("standard output"));
}

TEST(RecipesCommand, ListsTheBuiltInsWithTheDefaultFirst) {
  for (const auto& arguments : {std::vector<std::string>{"recipes", "--json"},
                                std::vector<std::string>{"recipes", "list", "--json"}}) {
    const Ran ran = run_program(arguments);
    EXPECT_EQ(ran.exit_code, 0);
    EXPECT_EQ(ran.err, "");
    const auto json = nlohmann::json::parse(ran.out);
    EXPECT_EQ(json["recipes"][0]["name"], "efficientqat-w2g64");
    EXPECT_GE(json["recipes"].size(), 22u);
  }
}

TEST(RecipesCommand, SaysPaperBitsCostAndExportsOfEach) {
  const auto recipes = nlohmann::json::parse(run_program({"recipes", "--json"}).out)["recipes"];
  const auto exports_of = [&](const std::string& name) -> std::vector<std::string> {
    for (const auto& recipe : recipes)
      if (recipe["name"] == name) return recipe["exports"];
    return {};
  };
  for (const auto& recipe : recipes) {
    for (const char* key : {"paper", "cost", "scheme"}) EXPECT_FALSE(recipe[key].get<std::string>().empty());
    EXPECT_THAT(recipe["exports"], ::testing::Contains("gptq")) << recipe["name"];
  }
  // Symmetric formats hold the two middle zero points only.
  EXPECT_THAT(exports_of("efficientqat-w2g64"), ::testing::Contains("compressed-tensors"));
  EXPECT_THAT(exports_of("awq-w2g64"), ::testing::Not(::testing::Contains("compressed-tensors")));
  EXPECT_THAT(exports_of("awq-w2g64"), ::testing::Not(::testing::Contains("hf"))) << "floats are no grid";
  const std::string text = run_program({"recipes"}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("arXiv:2308.13137"), HasSubstr("w4 asym, a4kv4"), HasSubstr("exports")));
  EXPECT_THAT(run_program({"recipes", "show", "awq-w4g64"}).out, HasSubstr("stages  [\"awq\"]"));
}

TEST(RecipesCommand, WhatItShowsIsARecipeFile) {
  const test::TempDir folder;
  const Ran shown =
      run_program({"recipes", "show", "efficientqat-w3g64", "--set", "block_ap.epochs=9", "--json"});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  std::ofstream(folder / "mine.json") << shown.out;
  const Ran again = run_program({"recipes", "show", (folder / "mine.json").string(), "--json"});
  EXPECT_EQ(again.out, shown.out);
  EXPECT_EQ(nlohmann::json::parse(again.out)["block_ap"]["epochs"], 9);
  EXPECT_THAT(run_program({"recipes", "show", "efficientqat-w3g64"}).out, HasSubstr("weight_lr"));
}

TEST(RecipesCommand, SaysWhatIsWrong) {
  expect_error(run_program({"recipes", "show", "efficientqat-w2g46"}), 3,
               "did you mean 'efficientqat-w2g64'?");
  expect_error(run_program({"recipes", "show", "rtn-w2g64", "--set", "weights.group-size=32"}), 2,
               "did you mean 'weights.group_size'?");
}

TEST(DoctorCommand, ReportsWhatAScriptNeeds) {
  const Ran ran = run_program({"doctor", "--json"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_GT(json["cpu"]["usable_cores"], 0);
  EXPECT_TRUE(json["cpu"]["features"]["avx2"].is_boolean());
  EXPECT_GT(json["memory"]["total_bytes"], json["memory"]["available_bytes"]);
  EXPECT_TRUE(json["torch"]["present"].is_boolean());
  EXPECT_FALSE(json["cache_dir"]["path"].get<std::string>().empty());
  EXPECT_TRUE(json["dependencies"].contains("cli11"));
  EXPECT_THAT(run_program({"doctor"}).out, AllOf(HasSubstr("memory"), HasSubstr("torch")));
}

TEST(InspectCommand, ListsTheTensorsOfASafetensorsFile) {
  const test::TempDir folder;
  const std::string path = (folder / "a.safetensors").string();
  io::write_safetensors(path, {{"w", DType::kF32, {2, 3}, [] { return std::vector<std::byte>(24); }}},
                        {{"origin", "test"}});
  const Ran ran = run_program({"inspect", path, "--json"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["kind"], "safetensors");
  EXPECT_EQ(json["tensors"][0]["name"], "w");
  EXPECT_EQ(json["tensors"][0]["shape"], nlohmann::json({2, 3}));
  EXPECT_EQ(json["tensor_bytes"], 24);
  EXPECT_EQ(json["metadata"]["origin"], "test");
  EXPECT_THAT(run_program({"inspect", path, "--tensors"}).out, HasSubstr("F32 [2,3]"));
}

TEST(InspectCommand, EachKindOfFaultHasItsExitCode) {
  const test::TempDir folder;
  std::ofstream(folder / "cut.safetensors") << "not a tensor file";
  std::ofstream(folder / "notes.txt") << "text";
  std::ofstream(folder / "broken.json") << "{";
  expect_error(run_program({"inspect", (folder / "absent").string()}), 3, "absent");
  expect_error(run_program({"inspect", (folder / "cut.safetensors").string()}), 4, "cut.safetensors");
  expect_error(run_program({"inspect", (folder / "notes.txt").string()}), 5, "notes.txt");
  expect_error(run_program({"inspect", (folder / "broken.json").string()}), 4, "broken.json");
}

TEST(CompleteUtf8, HoldsBackOnlyAnUnfinishedCharacter) {
  using cli::complete_utf8_length;
  EXPECT_EQ(complete_utf8_length(""), 0u);
  EXPECT_EQ(complete_utf8_length("ab"), 2u);
  EXPECT_EQ(complete_utf8_length("a\xC3"), 1u);
  EXPECT_EQ(complete_utf8_length("a\xC3\xA9"), 3u);
  EXPECT_EQ(complete_utf8_length("\xF0\x9F\x98"), 0u);
  EXPECT_EQ(complete_utf8_length("\xF0\x9F\x98\x80"), 4u);
  EXPECT_EQ(complete_utf8_length("a\xEF\xBF\xBD"), 1u) << "decoders write U+FFFD for the part that is there";
}

}  // namespace
}  // namespace crumb
