// Every face held to an independent packer in numpy, byte for byte.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "base/str.h"
#include "formats/exporter.h"
#include "io/safetensors.h"
#include "support/codes_checkpoint.h"
#include "support/shared_data.h"
#include "support/temp_dir.h"

namespace crumb::formats {
namespace {

using quant::AffineSpec;
using quant::Grid;
using test::Zeros;

struct Answer {
  int exit_code = -1;
  std::string text;
};

/// CRUMB_PYTHON names another interpreter than python3, one that has numpy.
Answer run_oracle(const std::string& arguments) {
  const char* python = std::getenv("CRUMB_PYTHON");
  const std::string command = cat(python == nullptr ? "python3" : python, " '", CRUMB_SOURCE_DIR,
                                  "/tests/formats/faces_oracle.py' ", arguments, " 2>&1");
  Answer answer;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return answer;
  char buffer[512];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) answer.text += buffer;
  answer.exit_code = WEXITSTATUS(pclose(pipe));
  return answer;
}

void write_codes(const std::filesystem::path& file, const test::CodesCheckpoint::Linears& linears) {
  std::vector<io::TensorToWrite> tensors;
  for (const auto& [name, linear] : linears) {
    const std::int64_t groups = linear.spec.groups(linear.k);
    tensors.push_back({name + ".q", DType::kU8, {linear.n, linear.k}, [&] {
                         return io::bytes_of(std::span<const std::uint8_t>(linear.codes));
                       }});
    tensors.push_back({name + ".z", DType::kU8, {linear.n, groups}, [&] {
                         return io::bytes_of(std::span<const std::uint8_t>(linear.zero_points));
                       }});
    tensors.push_back({name + ".s", DType::kF16, {linear.n, groups}, [&] {
                         return io::convert_from_f32(linear.scales, DType::kF16);
                       }});
  }
  io::write_safetensors(file, std::move(tensors), {{"format", "pt"}});
}

class Oracle : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Faces, Oracle, ::testing::Values(2, 3, 4, 8));

TEST_P(Oracle, WritesTheSameBytes) {
  const auto faces = test::shared_path("clients/faces.py");
  CRUMB_SKIP_WITHOUT(faces, "clients/faces.py");
  const test::TempDir folder;
  test::write_tiny_model(folder / "floats", {}, test::tiny_tensors(), DType::kF16);
  int count = 0;
  for (const Zeros zeros : {Zeros::kAny, Zeros::kMiddle}) {
    auto linears = test::random_linears(folder / "floats", {GetParam(), 32, Grid::kAsym}, zeros);
    write_codes(folder / "codes", linears);
    for (const char* name :
         {"gptq", "auto-round", "compressed-tensors-asym", "mlx", "awq", "gptq-v1", "compressed-tensors"}) {
      const std::string_view face = name;
      if (face == "awq" && GetParam() != 4) continue;
      if ((face == "gptq-v1" || face == "compressed-tensors") && zeros == Zeros::kAny) continue;
      SCOPED_TRACE(name);
      const auto arguments = [&](const std::filesystem::path& directory) {
        return cat("'", faces->string(), "' '", (folder / "codes").string(), "' ", name, " ", GetParam(),
                   " '", directory.string(), "'");
      };
      const std::filesystem::path good = folder / std::to_string(count++),
                                  bad = folder / std::to_string(count++);
      test::export_to(find_exporter(name), test::CodesCheckpoint(folder / "floats", linears), good);
      const Answer answer = run_oracle(arguments(good));
      if (answer.exit_code == 77 || answer.exit_code == 127)
        GTEST_SKIP() << "no python3 with numpy here (CRUMB_PYTHON names one): " << answer.text;
      EXPECT_EQ(answer.exit_code, 0) << answer.text;
      EXPECT_NE(answer.text.find("compared "), std::string::npos) << answer.text;

      auto changed = linears;  // negative control
      changed.begin()->second.codes.back() ^= 1;
      test::export_to(find_exporter(name), test::CodesCheckpoint(folder / "floats", changed), bad);
      EXPECT_EQ(run_oracle(arguments(bad)).exit_code, 1);
    }
  }
}

}  // namespace
}  // namespace crumb::formats
