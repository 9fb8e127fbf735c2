// Packing against the authors' packer, bit for bit: every packing*.safetensors of the golden folder.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "formats/gptq.h"
#include "io/safetensors.h"
#include "support/golden_file.h"

namespace crumb::formats {
namespace {

// A case "w2g64.codes" or "tail.w3.in96.out70.g32.codes": bits from the name, everything else from shapes.
struct Case {
  std::string prefix;
  int bits = 0;
};

std::vector<Case> cases_of(const io::SafetensorsFile& file, bool overflowing) {
  std::vector<Case> cases;
  for (const io::TensorInfo& tensor : file.tensors()) {
    if (!tensor.name.ends_with(".codes")) continue;
    const std::string prefix = tensor.name.substr(0, tensor.name.size() - std::string("codes").size());
    if ((file.find(prefix + "zeros") == nullptr) != overflowing) continue;
    const std::size_t w = prefix.starts_with('w') ? 0 : prefix.find(".w") + 1;
    cases.push_back({prefix, prefix[w + 1] - '0'});
  }
  return cases;
}

// [rows, columns] -> [columns, rows]: the file has inputs (groups) first.
template <class T>
std::vector<T> transposed(const std::vector<T>& values, std::int64_t rows, std::int64_t columns) {
  std::vector<T> out(values.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c)
      out[static_cast<std::size_t>(c * rows + r)] = values[static_cast<std::size_t>(r * columns + c)];
  }
  return out;
}

std::vector<std::uint32_t> words(const io::SafetensorsFile& file, const std::string& name) {
  const std::vector<std::int32_t> values = file.read_i32(name);
  return {values.begin(), values.end()};
}

quant::QuantizedLinear linear_of(const io::SafetensorsFile& file, const Case& c,
                                 const std::vector<std::uint8_t>& zeros) {
  const std::vector<std::int64_t> shape = file.at(c.prefix + "codes").shape;
  const std::int64_t groups = file.at(c.prefix + "scales_in").shape[0];
  quant::QuantizedLinear linear;
  linear.k = shape[0];
  linear.n = shape[1];
  linear.spec = {c.bits, linear.k / groups, quant::Grid::kAsym};
  linear.codes = transposed(file.read_u8(c.prefix + "codes"), linear.k, linear.n);
  linear.scales = transposed(file.read_f32(c.prefix + "scales_in"), groups, linear.n);
  linear.zero_points = transposed(zeros, groups, linear.n);
  return linear;
}

TEST(EfficientQatPacking, EqualsTheAuthorsWordsBitForBit) {
  const auto files = test::golden_files("efficientqat", "packing");
  if (files.empty())
    GTEST_SKIP() << "golden/efficientqat/packing*.safetensors is not here (set CRUMB_SHARED)";
  int checked = 0;
  for (const auto& path : files) {
    const io::SafetensorsFile file(path);
    for (const Case& c : cases_of(file, false)) {
      SCOPED_TRACE(path.filename().string() + " " + c.prefix);
      quant::QuantizedLinear linear = linear_of(file, c, file.read_u8(c.prefix + "zeros"));
      const GptqTensors packed = pack_gptq(linear, quant::WordLayout::kPadded);
      EXPECT_EQ(packed.qweight, words(file, c.prefix + "qweight"));
      EXPECT_EQ(packed.qzeros, words(file, c.prefix + "qzeros"));
      EXPECT_EQ(packed.scales, file.read_f32(c.prefix + "scales"));
      if (file.find(c.prefix + "g_idx") != nullptr) {
        EXPECT_EQ(packed.g_idx, file.read_i32(c.prefix + "g_idx"));
      }
      // Negative control: the comparison sees one changed code.
      linear.codes.back() ^= 1;
      EXPECT_NE(pack_gptq(linear, quant::WordLayout::kPadded).qweight, packed.qweight);
      ++checked;
    }
  }
  EXPECT_GT(checked, 0) << "no case found in " << files.size() << " file(s)";
}

TEST(EfficientQatPacking, ReadsTheAuthorsWordsBackToTheirCodes) {
  const auto files = test::golden_files("efficientqat", "packing");
  if (files.empty())
    GTEST_SKIP() << "golden/efficientqat/packing*.safetensors is not here (set CRUMB_SHARED)";
  int checked = 0, products = 0;
  for (const auto& path : files) {
    const io::SafetensorsFile file(path);
    for (const Case& c : cases_of(file, false)) {
      SCOPED_TRACE(path.filename().string() + " " + c.prefix);
      const quant::QuantizedLinear expected = linear_of(file, c, file.read_u8(c.prefix + "zeros"));
      const GptqTensors stored{expected.n,
                               expected.k,
                               words(file, c.prefix + "qweight"),
                               words(file, c.prefix + "qzeros"),
                               file.read_f32(c.prefix + "scales"),
                               {}};
      const auto linear =
          unpack_gptq(stored, expected.spec, quant::WordLayout::kPadded, GptqZeros::kV2, c.prefix);
      EXPECT_EQ(linear.codes, expected.codes);
      EXPECT_EQ(linear.zero_points, expected.zero_points);
      EXPECT_EQ(linear.scales, expected.scales);
      ++checked;
      if (file.find(c.prefix + "y") == nullptr) continue;
      // Their layer output in fp32 lies within the rounding of a K-term f32 dot product, K * 2^-24 * sum |w
      // x|, of the f64 sum.
      const std::vector<float> x = file.read_f32(c.prefix + "x"), y = file.read_f32(c.prefix + "y"),
                               w = quant::dequantize(linear);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t row = i / static_cast<std::size_t>(linear.n),
                          out = i % static_cast<std::size_t>(linear.n);
        double sum = 0, magnitude = 0;
        for (std::int64_t k = 0; k < linear.k; ++k) {
          const double term =
              static_cast<double>(x[row * static_cast<std::size_t>(linear.k) + static_cast<std::size_t>(k)]) *
              w[out * static_cast<std::size_t>(linear.k) + static_cast<std::size_t>(k)];
          sum += term;
          magnitude += std::abs(term);
        }
        ASSERT_NEAR(y[i], sum, static_cast<double>(linear.k) * 0x1p-24 * magnitude) << "element " << i;
      }
      ++products;
    }
  }
  EXPECT_GT(checked, 0);
  EXPECT_GT(products, 0);
}

// The authors' packer lets an unclamped zero point, and the codes computed with it, run over their neighbors'
// bits; ours must not.
TEST(EfficientQatPacking, ClampsZeroPointsThatOverflowInTheAuthorsPacker) {
  const auto files = test::golden_files("efficientqat", "packing");
  if (files.empty())
    GTEST_SKIP() << "golden/efficientqat/packing*.safetensors is not here (set CRUMB_SHARED)";
  int checked = 0;
  for (const auto& path : files) {
    const io::SafetensorsFile file(path);
    for (const Case& c : cases_of(file, true)) {
      SCOPED_TRACE(path.filename().string() + " " + c.prefix);
      const std::vector<float> unclamped = file.read_f32(c.prefix + "zeros_true");
      const float max_code = static_cast<float>((1 << c.bits) - 1);
      std::vector<std::uint8_t> zeros;
      for (const float z : unclamped)
        zeros.push_back(static_cast<std::uint8_t>(std::clamp(z, 0.0f, max_code)));
      const quant::QuantizedLinear linear =
          linear_of(file, c, zeros);  // its codes are the true ones: the weight is (1 - clamp(z)) s
      const GptqTensors packed = pack_gptq(linear, quant::WordLayout::kPadded);
      EXPECT_NE(packed.qzeros, words(file, c.prefix + "qzeros"));
      EXPECT_NE(packed.qweight, words(file, c.prefix + "qweight"));
      // Only outputs with a zero point outside of the range went wrong there; the other columns are equal.
      const auto theirs = words(file, c.prefix + "qweight");
      int equal_columns = 0;
      for (std::size_t i = 0; i < packed.qweight.size(); ++i) {
        const float z = unclamped[i % static_cast<std::size_t>(linear.n)];
        if (z < 0 || z > max_code) continue;
        EXPECT_EQ(packed.qweight[i], theirs[i]) << "word " << i;
        ++equal_columns;
      }
      EXPECT_GT(equal_columns, 0);
      const auto back =
          unpack_gptq(packed, linear.spec, quant::WordLayout::kPadded, GptqZeros::kV2, c.prefix);
      EXPECT_EQ(back.zero_points, linear.zero_points);
      EXPECT_EQ(back.codes, linear.codes);
      ++checked;
    }
  }
  EXPECT_GT(checked, 0);
}

}  // namespace
}  // namespace crumb::formats
