// crumb export, import and inspect from outside.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/run_program.h"
#include "support/codes_checkpoint.h"
#include "support/temp_dir.h"

namespace crumb {
namespace {

using nlohmann::json;
using quant::AffineSpec;
using quant::Grid;
using test::run_program;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kUp = "model.layers.1.mlp.up_proj";

class ExportCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(folder_ / "floats", {}, test::tiny_tensors(), DType::kF16);
    linears_ = test::random_linears(folder_ / "floats", {2, 64, Grid::kAsym}, test::Zeros::kMiddleTwo);
    write("model");
  }
  void write(const std::string& name) {
    test::export_to(formats::own_directory_exporter(), test::CodesCheckpoint(folder_ / "floats", linears_),
                    folder_ / name);
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  test::TempDir folder_;
  test::CodesCheckpoint::Linears linears_;
};

TEST_F(ExportCommand, EveryFaceIsCheckedAndComesBack) {
  for (const char* face : {"gptq", "gptq-v1", "auto-round", "compressed-tensors", "awq", "mlx", "hf"}) {
    SCOPED_TRACE(face);
    const auto ran = run_program({"export", at("model"), "--to", face, "--check", "--json"});
    ASSERT_EQ(ran.exit_code, 0) << ran.err;
    const json report = json::parse(ran.out);
    EXPECT_EQ(report["output"], at(std::string("model-") + face));
    EXPECT_EQ(report["lossless"], true);
    EXPECT_EQ(report["check"]["linears"], 14);
    const std::int64_t weights =
        report["check"]["codes"].get<std::int64_t>() + report["check"]["weights"].get<std::int64_t>();
    EXPECT_EQ(weights, 2 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 64 * 128));
    if (std::string(face) == "hf") continue;
    const auto back = run_program(
        {"import", at(std::string("model-") + face), "-o", at(std::string("back-") + face), "--check"});
    ASSERT_EQ(back.exit_code, 0) << back.err;
    EXPECT_THAT(back.out, AllOf(HasSubstr("the same weights"), HasSubstr("checked: 14 linears")));
  }
}

TEST_F(ExportCommand, ListSaysWhatFitsAndWhyNot) {
  linears_.at(kUp).zero_points[3] = 3;
  write("odd");
  const auto ran = run_program({"export", at("odd"), "--list", "--json"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const json list = json::parse(ran.out);
  EXPECT_EQ(list["grids"][0]["zero_points"]["3"], 1);
  const auto verdict = [&](const std::string& format) {
    for (const auto& row : list["formats"])
      if (row["format"] == format) return row["verdict"].get<std::string>();
    return std::string("absent");
  };
  EXPECT_EQ(verdict("gptq"), "lossless");
  EXPECT_EQ(verdict("compressed-tensors"), "with --requantize");
  EXPECT_EQ(verdict("hf"), "lossless");
  EXPECT_THAT(run_program({"export", at("odd"), "--list"}).out,
              AllOf(HasSubstr(kUp), HasSubstr("1 of 128 groups"), HasSubstr("3: 1")));

  const auto refused = run_program({"export", at("odd"), "--to", "compressed-tensors", "-o", at("out")});
  EXPECT_EQ(refused.exit_code, 5);
  EXPECT_THAT(refused.err, AllOf(HasSubstr(kUp), HasSubstr("--requantize")));
  EXPECT_FALSE(std::filesystem::exists(at("out"))) << "whole or absent";
  const auto nearest = run_program({"export", at("odd"), "--to", "compressed-tensors", "-o", at("out"),
                                    "--requantize", "--check", "--json"});
  ASSERT_EQ(nearest.exit_code, 0) << nearest.err;
  const json report = json::parse(nearest.out);
  EXPECT_EQ(report["lossless"], false);
  EXPECT_EQ(report["lossy"][0]["linear"], kUp);
  EXPECT_GT(report["lossy"][0]["relative_error"].get<double>(), 0);
  EXPECT_EQ(report["check"]["lossy"], 1);
}

TEST_F(ExportCommand, PrintsTheLoadersNote) {
  const auto ran =
      run_program({"export", at("model"), "--to", "compressed-tensors-asym", "--shard-size", "20KB"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("dequantize=True"));
  EXPECT_TRUE(std::filesystem::exists(at("model-compressed-tensors-asym/model.safetensors.index.json")));
}

TEST_F(ExportCommand, AsksAnotherProgram) {
  const std::string check = at("check.sh");
  std::ofstream(check) << "#!/bin/sh\n"
                          "echo asked about \"$1\"\n"
                          "[ -e \"$1/config.json\" ] && [ \"$2\" = --logits ] && grep -q tokens \"$3\"\n";
  const auto agrees = run_program(
      {"export", at("model"), "--to", "mlx", "-o", at("it's"), "--check-with", "sh " + check, "--json"});
  ASSERT_EQ(agrees.exit_code, 0) << agrees.err;
  EXPECT_THAT(agrees.err, HasSubstr("asked about " + at("it's")));
  EXPECT_TRUE(json::accept(agrees.out)) << "standard output is the report alone";
  const auto differs =
      run_program({"export", at("model"), "--to", "mlx", "-o", at("out"), "--check-with", "exit 3;"});
  EXPECT_NE(differs.exit_code, 0);
  EXPECT_THAT(differs.err, HasSubstr("status 3"));
}

TEST_F(ExportCommand, RefusesWithASentence) {
  EXPECT_THAT(run_program({"export", at("model"), "--to", "gtpq"}).err,
              AllOf(HasSubstr("gtpq"), HasSubstr("gptq-v1")));
  EXPECT_THAT(run_program({"export", at("model")}).err, AllOf(HasSubstr("--to"), HasSubstr("mlx")));
  EXPECT_THAT(run_program({"export", at("model"), "--to", "hf", "-o", at("model")}).err,
              HasSubstr("is there already"));
  const auto floats = run_program({"import", at("floats"), "-o", at("out")});
  EXPECT_EQ(floats.exit_code, 5);
  EXPECT_THAT(floats.err, HasSubstr("holds codes"));
}

TEST_F(ExportCommand, InspectShowsPartsGridsAndTensors) {
  const json report = json::parse(run_program({"inspect", at("model"), "--tensors", "--json"}).out);
  EXPECT_EQ(report["grids"][0]["linears"], 14);
  EXPECT_EQ(report["grids"][0]["scheme"], "w2g64");
  std::int64_t groups = 0;
  for (const auto& [z, count] : report["grids"][0]["zero_points"].items()) {
    EXPECT_TRUE(z == "1" || z == "2") << z;
    groups += count.get<std::int64_t>();
  }
  EXPECT_EQ(groups, report["grids"][0]["groups"]);
  std::int64_t bytes = 0;
  for (const auto& [part, figures] : report["parts"].items()) bytes += figures["bytes"].get<std::int64_t>();
  EXPECT_EQ(bytes, report["tensor_bytes"]);
  EXPECT_EQ(report["parts"]["embedding"]["bytes"], 258 * 64 * 2);
  EXPECT_EQ(report["tensors"].size(), 2 + 1 + 2 * (2 + 7 * 4));
  EXPECT_THAT(run_program({"inspect", at("model")}).out,
              AllOf(HasSubstr("zero points 1:"), HasSubstr("norms")));
}

}  // namespace
}  // namespace crumb
