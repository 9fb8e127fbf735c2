// The worked example of docs/formats/gptq.md is read from the document itself.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <sstream>

#include "base/half.h"
#include "formats/gptq.h"
#include "io/json.h"
#include "support/shared_data.h"

namespace crumb::formats {
namespace {

// The bytes of each tensor in the first code block behind "## Worked example"; a line that begins with a
// blank continues the one before.
std::map<std::string, std::vector<std::uint8_t>> example_bytes() {
  const std::string document =
      io::read_text_file(std::filesystem::path(CRUMB_SOURCE_DIR) / "docs/formats/gptq.md");
  const std::size_t begin = document.find("```\n", document.find("## Worked example")) + 4;
  std::istringstream block(document.substr(begin, document.find("```", begin) - begin));
  std::map<std::string, std::vector<std::uint8_t>> tensors;
  std::string name;
  for (std::string line; std::getline(block, line);) {
    std::istringstream words(line);
    if (line.front() != ' ') words >> name;
    for (std::string word; words >> word;) {
      for (std::size_t i = 0; i < word.size(); i += 2)
        tensors[name].push_back(static_cast<std::uint8_t>(std::stoul(word.substr(i, 2), nullptr, 16)));
    }
  }
  return tensors;
}

template <class T>
std::vector<T> values_of(const std::vector<std::uint8_t>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

TEST(GptqDocument, ShowsTheBytesThatAreReadAndWritten) {
  const auto bytes = example_bytes();
  ASSERT_EQ(bytes.size(), 4u);
  GptqTensors tensors{16,
                      32,
                      values_of<std::uint32_t>(bytes.at("qweight")),
                      values_of<std::uint32_t>(bytes.at("qzeros")),
                      {},
                      values_of<std::int32_t>(bytes.at("g_idx"))};
  for (const std::uint16_t half : values_of<std::uint16_t>(bytes.at("scales")))
    tensors.scales.push_back(f16_to_float(half));
  const auto linear =
      unpack_gptq(tensors, {2, 16, quant::Grid::kAsym}, quant::WordLayout::kDense, GptqZeros::kV2, "example");
  for (std::int64_t n = 0; n < 16; ++n) {
    for (std::int64_t k = 0; k < 32; ++k)
      ASSERT_EQ(linear.codes[static_cast<std::size_t>(n * 32 + k)], (n + k) % 4) << n << " " << k;
    for (std::int64_t j = 0; j < 2; ++j) {
      ASSERT_EQ(linear.zero_points[static_cast<std::size_t>(n * 2 + j)], 1 + (n + j) % 3) << n << " " << j;
      ASSERT_EQ(linear.scales[static_cast<std::size_t>(n * 2 + j)], j == 0 ? 0.5f : -1.5f);
    }
  }
  std::size_t total = 0;
  for (auto& tensor : gptq_tensors_to_write("example", linear)) {
    const std::vector<std::byte> written = tensor.produce();
    const auto& expected = bytes.at(tensor.name.substr(tensor.name.find('.') + 1));
    ASSERT_EQ(written.size(), expected.size()) << tensor.name;
    EXPECT_EQ(std::memcmp(written.data(), expected.data(), written.size()), 0) << tensor.name;
    total += written.size();
  }
  EXPECT_EQ(static_cast<std::int64_t>(total), gptq_bytes(16, 32, linear.spec));
}

// The words that the document names in its tables, column by column.
TEST(GptqDocument, NamesWordsThatThePackerMakes) {
  const auto packed = [](int bits, const auto& code, quant::WordLayout layout) {
    std::vector<std::uint8_t> codes;
    for (int i = 0; i < 32; ++i) codes.push_back(static_cast<std::uint8_t>(code(i)));
    std::vector<std::uint32_t> words(static_cast<std::size_t>(quant::packed_words(32, bits, layout)));
    quant::pack_codes(codes.data(), 1, 32, bits, layout, words.data(), 1);
    return words;
  };
  const std::string document =
      io::read_text_file(std::filesystem::path(CRUMB_SOURCE_DIR) / "docs/formats/gptq.md");
  const auto named = [&](const std::vector<std::uint32_t>& words, std::size_t count) {
    std::ostringstream text;
    for (std::size_t i = 0; i < count; ++i) {
      char word[16];
      std::snprintf(word, sizeof word, "%s%08X", i == 0 ? "" : " ", words[i]);
      text << word;
    }
    return document.find(text.str()) != std::string::npos;
  };
  const auto mod8 = [](int i) { return i % 8; };
  EXPECT_TRUE(named(packed(3, mod8, quant::WordLayout::kDense), 3));
  EXPECT_TRUE(named(packed(3, mod8, quant::WordLayout::kPadded), 4));
  EXPECT_TRUE(named(packed(
                        4, [](int i) { return 1 + i % 8; }, quant::WordLayout::kDense),
                    1));
  EXPECT_TRUE(named(packed(4, mod8, quant::WordLayout::kDense), 1));
  EXPECT_FALSE(named(packed(
                         3, [](int i) { return (i + 1) % 8; }, quant::WordLayout::kDense),
                     3))
      << "negative control";
}

}  // namespace
}  // namespace crumb::formats
