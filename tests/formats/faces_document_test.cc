// The worked examples of docs/formats/{compressed_tensors,awq,mlx,auto_round}.md are read from the documents.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/half.h"
#include "formats/awq.h"
#include "formats/compressed_tensors.h"
#include "formats/exporter.h"
#include "formats/mlx.h"
#include "formats/packed_reader.h"
#include "io/json.h"
#include "support/codes_checkpoint.h"
#include "support/shared_data.h"
#include "support/temp_dir.h"

namespace crumb::formats {
namespace {

using quant::Grid;
using quant::WordLayout;

std::string document(const std::string& name) {
  return io::read_text_file(std::filesystem::path(CRUMB_SOURCE_DIR) / "docs/formats" / name);
}

/// The first block with the given fence behind `heading`.
std::string block_of(const std::string& name, const std::string& heading,
                     const std::string& fence = "```\n") {
  const std::string text = document(name);
  const std::size_t begin = text.find(fence, text.find(heading)) + fence.size();
  return text.substr(begin, text.find("```", begin) - begin);
}

/// A tensor's bytes by its name; a line that begins with a blank continues the one before.
std::map<std::string, std::vector<std::uint8_t>> example_of(const std::string& name) {
  std::istringstream block(block_of(name, "## Worked example"));
  std::map<std::string, std::vector<std::uint8_t>> tensors;
  std::string tensor;
  for (std::string line; std::getline(block, line);) {
    std::istringstream words(line);
    if (line.front() != ' ') words >> tensor;
    for (std::string word; words >> word;) {
      for (std::size_t i = 0; i < word.size(); i += 2)
        tensors[tensor].push_back(static_cast<std::uint8_t>(std::stoul(word.substr(i, 2), nullptr, 16)));
    }
  }
  return tensors;
}

std::vector<std::uint32_t> words(const std::vector<std::uint8_t>& bytes) {
  std::vector<std::uint32_t> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}
std::vector<float> halves(const std::vector<std::uint8_t>& bytes) {
  std::vector<float> values(bytes.size() / 2);
  io::convert_to_f32(std::as_bytes(std::span(bytes)), DType::kF16, values);
  return values;
}

/// Codes, zero points and scales as the page says them in words.
void expect_linear(const quant::QuantizedLinear& linear, const auto& code, const auto& zero,
                   const auto& scale) {
  const std::int64_t groups = linear.spec.groups(linear.k);
  for (std::int64_t n = 0; n < linear.n; ++n) {
    for (std::int64_t k = 0; k < linear.k; ++k)
      ASSERT_EQ(linear.codes[static_cast<std::size_t>(n * linear.k + k)], code(n, k)) << n << " " << k;
    for (std::int64_t j = 0; j < groups; ++j) {
      ASSERT_EQ(linear.zero_points[static_cast<std::size_t>(n * groups + j)], zero(n, j));
      ASSERT_EQ(linear.scales[static_cast<std::size_t>(n * groups + j)], scale(n, j));
    }
  }
}

TEST(CompressedTensorsDocument, ShowsTheBytesThatAreReadAndWritten) {
  const auto bytes = example_of("compressed_tensors.md");
  const CompressedParts parts{16, 32, words(bytes.at("weight_packed")), halves(bytes.at("weight_scale")),
                              words(bytes.at("weight_zero_point"))};
  const auto linear =
      unpack_compressed(parts, {2, 16, Grid::kAsym}, WordLayout::kDense, WordLayout::kDense, "example");
  expect_linear(
      linear, [](auto n, auto k) { return (n + k) % 4; }, [](auto n, auto j) { return 1 + (n + j) % 3; },
      [](auto, auto j) { return j == 0 ? 0.5f : -1.5f; });
  const CompressedParts again = pack_compressed(linear, false);
  EXPECT_EQ(again.packed, parts.packed);
  EXPECT_EQ(again.zero_points, parts.zero_points);
  EXPECT_EQ(again.scales, parts.scales);
}

TEST(AwqDocument, ShowsTheBytesThatAreReadAndWritten) {
  const auto bytes = example_of("awq.md");
  const AwqParts parts{8, 32, words(bytes.at("qweight")), words(bytes.at("qzeros")),
                       halves(bytes.at("scales"))};
  const auto linear = unpack_awq(parts, {4, 32, Grid::kAsym}, "example");
  expect_linear(
      linear, [](auto n, auto k) { return (n + k) % 16; }, [](auto n, auto) { return 1 + n; },
      [](auto n, auto) { return n % 2 == 0 ? 0.5f : -1.5f; });
  const AwqParts again = pack_awq(linear);
  EXPECT_EQ(again.qweight, parts.qweight);
  EXPECT_EQ(again.qzeros, parts.qzeros);
  EXPECT_EQ(again.scales, parts.scales);
}

TEST(MlxDocument, ShowsTheBytesThatAreReadAndWritten) {
  const auto bytes = example_of("mlx.md");
  const MlxParts parts{2, 32, words(bytes.at("weight")), halves(bytes.at("scales")),
                       halves(bytes.at("biases"))};
  const auto linear = unpack_mlx(parts, {3, 32, Grid::kAsym}, DType::kF16, "example");
  expect_linear(
      linear, [](auto n, auto k) { return (n + k) % 8; }, [](auto n, auto) { return 4 + n; },
      [](auto n, auto) { return n == 0 ? 0.5f : -1.5f; });
  const MlxParts again = pack_mlx(linear);
  EXPECT_EQ(again.words, parts.words);
  EXPECT_EQ(again.scales, parts.scales);
  EXPECT_EQ(again.biases, parts.biases);
}

/// What an exporter says of a model whose linears differ as the pages' examples do.
nlohmann::ordered_json written_configuration(const char* face, test::Zeros zeros,
                                             const quant::AffineSpec& spec, const char* member) {
  const test::TempDir folder;
  test::write_tiny_model(folder / "floats", {}, test::tiny_tensors(), DType::kF16);
  auto linears = test::random_linears(folder / "floats", spec, zeros,
                                      {{"model.layers.1.mlp.up_proj", {4, 32, Grid::kAsym}}});
  if (std::string_view(face) == "auto-round") linears.erase("model.layers.1.self_attn.v_proj");
  test::export_to(find_exporter(face), test::CodesCheckpoint(folder / "floats", linears), folder / "out");
  return io::parse_ordered_json(io::read_text_file(folder / "out" / "config.json"), "config.json")[member];
}

TEST(AutoRoundDocument, ShowsTheConfigurationThatIsWrittenAndRead) {
  const auto shown =
      io::parse_ordered_json(block_of("auto_round.md", "## Worked example", "```json\n"), "auto_round.md");
  EXPECT_EQ(shown, written_configuration("auto-round", test::Zeros::kAny, {2, 64, Grid::kAsym},
                                         "quantization_config"));
  const auto reader = make_method_reader(shown, "auto_round.md");
  EXPECT_EQ(reader->specs().of("model.layers.1.mlp.up_proj"), (quant::AffineSpec{4, 32, Grid::kAsym}));
  EXPECT_EQ(reader->specs().of("model.layers.1.self_attn.v_proj"), std::nullopt);
  EXPECT_EQ(reader->specs().of("model.layers.0.mlp.up_proj"), (quant::AffineSpec{2, 64, Grid::kAsym}));
}

TEST(MlxDocument, ShowsTheConfigurationThatIsWritten) {
  const auto shown = io::parse_ordered_json(block_of("mlx.md", "## Configuration", "```json\n"), "mlx.md");
  for (const char* member : {"quantization", "quantization_config"})
    EXPECT_EQ(shown, written_configuration("mlx", test::Zeros::kAny, {2, 64, Grid::kAsym}, member));
}

TEST(AwqDocument, ShowsTheConfigurationThatIsRead) {
  const auto shown = io::parse_ordered_json(block_of("awq.md", "## Configuration", "```json\n"), "awq.md");
  EXPECT_EQ(make_method_reader(shown, "awq.md")->specs().otherwise(),
            (quant::AffineSpec{4, 128, Grid::kAsym}));
}

TEST(CompressedTensorsDocument, ShowsTheConfigurationThatIsRead) {
  const auto shown =
      io::parse_ordered_json(block_of("compressed_tensors.md", "## Configuration", "```json\n"), "the page");
  const auto reader = make_method_reader(shown, "the page");
  EXPECT_EQ(reader->specs().otherwise(), (quant::AffineSpec{2, 64, Grid::kSignedSym}));
  EXPECT_EQ(reader->specs().of("lm_head"), std::nullopt);
}

}  // namespace
}  // namespace crumb::formats
