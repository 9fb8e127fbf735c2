#include "formats/gguf_types.h"

#include <cstring>
#include <string>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "base/parallel_for.h"
#include "io/gguf.h"

namespace crumb::formats {
namespace {

std::uint8_t u8(const std::byte* p) {
  return std::to_integer<std::uint8_t>(*p);
}
int i8(const std::byte* p) {
  return static_cast<std::int8_t>(u8(p));
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float half_at(const std::byte* p) {
  return f16_to_float(load<std::uint16_t>(p));
}
/// Element j of 32 whose codes lie split: byte j has element j in its low half and element j + 16 in its high
/// half.
int split_nibble(const std::byte* qs, int j) {
  return j < 16 ? u8(qs + j) & 15 : u8(qs + j - 16) >> 4;
}

void f32_block(const std::byte* block, float* out) {
  *out = load<float>(block);
}
void f16_block(const std::byte* block, float* out) {
  *out = half_at(block);
}
void bf16_block(const std::byte* block, float* out) {
  *out = bf16_to_float(load<std::uint16_t>(block));
}

// d f16 | 16 bytes of codes                    (q - 8) d
int q4_0_code(const std::byte* block, int j) {
  return split_nibble(block + 2, j);
}
void q4_0_block(const std::byte* block, float* out) {
  const float d = half_at(block);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(q4_0_code(block, j) - 8) * d;
}

// d, m f16 | 16 bytes of codes                 q d + m
void q4_1_block(const std::byte* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(split_nibble(block + 4, j)) * d + m;
}

// d f16 | u32 fifth bits | 16 bytes of codes   (q - 16) d
void q5_0_block(const std::byte* block, float* out) {
  const float d = half_at(block);
  const auto high = load<std::uint32_t>(block + 2);
  for (int j = 0; j < 32; ++j) {
    const int q = split_nibble(block + 6, j) | static_cast<int>(high >> j & 1u) << 4;
    out[j] = static_cast<float>(q - 16) * d;
  }
}

// d, m f16 | u32 fifth bits | 16 bytes         q d + m
void q5_1_block(const std::byte* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  const auto high = load<std::uint32_t>(block + 4);
  for (int j = 0; j < 32; ++j) {
    const int q = split_nibble(block + 8, j) | static_cast<int>(high >> j & 1u) << 4;
    out[j] = static_cast<float>(q) * d + m;
  }
}

// d f16 | 32 signed bytes                      q d = (code - 128) d
int q8_0_code(const std::byte* block, int j) {
  return i8(block + 2 + j) + 128;
}
void q8_0_block(const std::byte* block, float* out) {
  const float d = half_at(block);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(q8_0_code(block, j) - 128) * d;
}

// d f16 | 16 bytes, 4 consecutive codes each   (q - 1) d
int q2_0_code(const std::byte* block, int j) {
  return u8(block + 2 + j / 4) >> 2 * (j % 4) & 3;
}
void q2_0_block(const std::byte* block, float* out) {
  const float d = half_at(block);
  for (int j = 0; j < 64; ++j) out[j] = static_cast<float>(q2_0_code(block, j) - 1) * d;
}

/// The two low bits of element i as Q2_K and Q3_K place them: 32 bytes serve 128 elements, one bit pair for
/// each run of 32.
int k_low2(const std::byte* qs, int i) {
  return u8(qs + 32 * (i / 128) + i % 32) >> 2 * (i % 128 / 32) & 3;
}

// 16 bytes: scale low, min high nibble for 16 elements | 64 bytes codes | d, dmin f16      (d sc) q - dmin mn
void q2_k_block(const std::byte* block, float* out) {
  const float d = half_at(block + 80), dmin = half_at(block + 82);
  for (int i = 0; i < 256; ++i) {
    const std::uint8_t scales = u8(block + i / 16);
    out[i] = d * static_cast<float>(scales & 15) * static_cast<float>(k_low2(block + 16, i)) -
             dmin * static_cast<float>(scales >> 4);
  }
}

// 32 bytes third bits | 64 bytes low bits | 12 bytes of 16 six-bit scales | d f16          d (sc - 32) (q -
// 4)
void q3_k_block(const std::byte* block, float* out) {
  const float d = half_at(block + 108);
  const std::byte* packed = block + 96;
  for (int i = 0; i < 256; ++i) {
    const int j = i / 16;
    const int low = j < 8 ? u8(packed + j) & 15 : u8(packed + j - 8) >> 4;
    const int scale = low | (u8(packed + 8 + j % 4) >> 2 * (j / 4) & 3) << 4;
    const int q = k_low2(block + 32, i) | (u8(block + i % 32) >> i / 32 & 1) << 2;
    out[i] = d * static_cast<float>(scale - 32) * static_cast<float>(q - 4);
  }
}

struct ScaleMin {
  int scale, min;
};

/// Six-bit scale and minimum of sub-block j < 8 out of the 12 bytes that Q4_K and Q5_K share.
ScaleMin k_scale_min(const std::byte* packed, int j) {
  if (j < 4) return {u8(packed + j) & 63, u8(packed + j + 4) & 63};
  return {(u8(packed + j + 4) & 15) | (u8(packed + j - 4) >> 6) << 4,
          u8(packed + j + 4) >> 4 | (u8(packed + j) >> 6) << 4};
}

/// Four bits of element i: 32 bytes serve 64 elements, the low halves first.
int k_low4(const std::byte* qs, int i) {
  return u8(qs + 32 * (i / 64) + i % 32) >> 4 * (i % 64 / 32) & 15;
}

// d, dmin f16 | 12 bytes scales and minima | 128 bytes codes                               (d sc) q - dmin mn
void q4_k_block(const std::byte* block, float* out) {
  const float d = half_at(block), dmin = half_at(block + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = k_scale_min(block + 4, j);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    for (int i = 32 * j; i < 32 * j + 32; ++i)
      out[i] = scale * static_cast<float>(k_low4(block + 16, i)) - min;
  }
}

// As Q4_K with 32 bytes of fifth bits before the codes: bit j of byte i mod 32 for sub-block j.
void q5_k_block(const std::byte* block, float* out) {
  const float d = half_at(block), dmin = half_at(block + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = k_scale_min(block + 4, j);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    for (int i = 32 * j; i < 32 * j + 32; ++i) {
      const int q = k_low4(block + 48, i) | (u8(block + 16 + i % 32) >> j & 1) << 4;
      out[i] = scale * static_cast<float>(q) - min;
    }
  }
}

// 128 bytes low four bits | 64 bytes high two | 16 signed scales | d f16                   (d sc) (q - 32)
void q6_k_block(const std::byte* block, float* out) {
  const float d = half_at(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int n = i / 128, k = i % 128 / 32, l = i % 32;
    const int low = u8(block + 64 * n + l + 32 * (k & 1)) >> 4 * (k >> 1) & 15;
    const int high = u8(block + 128 + 32 * n + l) >> 2 * k & 3;
    const int scale = i8(block + 192 + 8 * n + 2 * k + l / 16);
    out[i] = d * static_cast<float>(scale) * static_cast<float>((low | high << 4) - 32);
  }
}

/// A type on a grid; `code` gives the unsigned code of element j of a block.
struct CodedType {
  std::uint32_t id;
  int bits;
  std::uint8_t zero_point;
  int (*code)(const std::byte* block, int j);
};
constexpr CodedType kCoded[] = {{2, 4, 8, q4_0_code}, {8, 8, 128, q8_0_code}, {42, 2, 1, q2_0_code}};
constexpr std::int64_t kCodedGroup = 32;

const CodedType* find_coded(const GgufType& type) {
  for (const CodedType& coded : kCoded) {
    if (coded.id == type.id) return &coded;
  }
  return nullptr;
}

constexpr GgufType kTypes[] = {
    {0, "F32", 1, 4, f32_block},        {1, "F16", 1, 2, f16_block},
    {30, "BF16", 1, 2, bf16_block},     {2, "Q4_0", 32, 18, q4_0_block},
    {3, "Q4_1", 32, 20, q4_1_block},    {6, "Q5_0", 32, 22, q5_0_block},
    {7, "Q5_1", 32, 24, q5_1_block},    {8, "Q8_0", 32, 34, q8_0_block},
    {10, "Q2_K", 256, 84, q2_k_block},  {11, "Q3_K", 256, 110, q3_k_block},
    {12, "Q4_K", 256, 144, q4_k_block}, {13, "Q5_K", 256, 176, q5_k_block},
    {14, "Q6_K", 256, 210, q6_k_block}, {42, "Q2_0", 64, 18, q2_0_block},
};

// Types that exist and that crumb does not read, for messages.
struct ForeignType {
  std::uint32_t id;
  std::string_view name;
};
constexpr ForeignType kForeign[] = {
    {9, "Q8_1"},    {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"}, {24, "I8"},      {25, "I16"},
    {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},  {34, "TQ1_0"},   {35, "TQ2_0"},
    {39, "MXFP4"},  {40, "NVFP4"}, {41, "Q1_0"},
};

std::string type_label(std::uint32_t id) {
  for (const ForeignType& foreign : kForeign) {
    if (foreign.id == id) return cat(id, " (", foreign.name, ")");
  }
  return cat(id);
}

}  // namespace

const GgufType* find_gguf_type(std::uint32_t id) {
  for (const GgufType& type : kTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

const GgufType* find_gguf_type(std::string_view name) {
  for (const GgufType& type : kTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

std::int64_t gguf_tensor_bytes(const GgufType& type, std::int64_t row_elements, std::int64_t rows) {
  constexpr std::string_view kWhere = "formats.gguf_tensor_bytes";
  if (row_elements < 0 || rows < 0 || row_elements % type.block_elements != 0) {
    fail(ErrorKind::kCorrupt, kWhere, type.name, " tensor of ", rows, " rows of ", row_elements,
         " elements; expected a multiple of ", type.block_elements, " in a row");
  }
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(row_elements / type.block_elements, type.block_bytes, &bytes) ||
      __builtin_mul_overflow(bytes, rows, &bytes)) {
    fail(ErrorKind::kCorrupt, kWhere, type.name, " tensor of ", rows, " rows of ", row_elements,
         " elements: its size passes 2^63 bytes");
  }
  return bytes;
}

std::int64_t gguf_tensor_bytes(const io::GgufTensor& tensor) {
  const GgufType* type = find_gguf_type(tensor.type);
  if (type == nullptr) {
    std::string known;
    for (const GgufType& each : kTypes) known += cat(known.empty() ? "" : ", ", each.name);
    fail(ErrorKind::kUnsupported, "formats.gguf", "tensor '", tensor.name, "': type ",
         type_label(tensor.type), " is not read; expected one of ", known);
  }
  std::int64_t rows = 1;  // the container has checked that the product of the dims fits
  for (std::size_t d = 1; d < tensor.dims.size(); ++d) rows *= tensor.dims[d];
  try {
    return gguf_tensor_bytes(*type, tensor.dims.at(0), rows);
  } catch (const Error& error) {
    fail(error.kind(), "formats.gguf", "tensor '", tensor.name, "': ", error.what());
  }
}

void check_gguf_tensors(const io::GgufFile& file) {
  file.check_extents([&](const io::GgufTensor& tensor) {
    try {
      return static_cast<std::uint64_t>(gguf_tensor_bytes(tensor));
    } catch (const Error& error) {
      fail(error.kind(), "formats.gguf", file.path().string(), ": ", error.what());
    }
  });
}

namespace {

void check_bytes(const GgufType& type, std::span<const std::byte> bytes, std::int64_t elements) {
  if (elements % type.block_elements != 0 ||
      static_cast<std::int64_t>(bytes.size()) != elements / type.block_elements * type.block_bytes) {
    fail(ErrorKind::kCorrupt, "formats.dequantize_gguf", type.name, ": ", bytes.size(), " bytes for ",
         elements, " elements; expected ", type.block_bytes, " bytes for every ", type.block_elements);
  }
}

}  // namespace

std::optional<quant::AffineSpec> gguf_grid(const GgufType& type) {
  const CodedType* coded = find_coded(type);
  if (coded == nullptr) return std::nullopt;
  return quant::AffineSpec{coded->bits, kCodedGroup, quant::Grid::kSignedSym};
}

quant::QuantizedLinear read_gguf_codes(const GgufType& type, std::span<const std::byte> bytes, std::int64_t n,
                                       std::int64_t k) {
  const CodedType* coded = find_coded(type);
  CRUMB_CHECK(coded != nullptr && k % type.block_elements == 0);
  check_bytes(type, bytes, n * k);
  quant::QuantizedLinear out{n, k, *gguf_grid(type), {}, {}, {}};
  out.codes.resize(static_cast<std::size_t>(n * k));
  out.scales.resize(out.codes.size() / kCodedGroup);
  out.zero_points.assign(out.scales.size(), coded->zero_point);
  for (std::size_t i = 0; i < out.codes.size(); ++i) {
    const auto element = static_cast<std::int64_t>(i);
    const std::byte* const block = bytes.data() + element / type.block_elements * type.block_bytes;
    out.codes[i] =
        static_cast<std::uint8_t>(coded->code(block, static_cast<int>(element % type.block_elements)));
    if (element % kCodedGroup == 0) out.scales[i / kCodedGroup] = half_at(block);
  }
  return out;
}

void dequantize_gguf(const GgufType& type, std::span<const std::byte> bytes, std::span<float> out) {
  const auto elements = static_cast<std::int64_t>(out.size());
  check_bytes(type, bytes, elements);
  const std::int64_t blocks = elements / type.block_elements;
  parallel_for(blocks, 65536 / type.block_elements, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      type.dequantize_block(bytes.data() + b * type.block_bytes, out.data() + b * type.block_elements);
    }
  });
}

}  // namespace crumb::formats
