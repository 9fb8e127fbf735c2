// GGUF tensor types, read by dequantizing. docs/formats/gguf.md.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "quant/quantized_linear.h"

namespace crumb::io {
class GgufFile;
struct GgufTensor;
}  // namespace crumb::io

namespace crumb::formats {

/// One ggml type: its block of `block_elements` weights takes `block_bytes`.
struct GgufType {
  std::uint32_t id;
  std::string_view name;
  std::int64_t block_elements;
  std::int64_t block_bytes;
  void (*dequantize_block)(const std::byte* block, float* out);
};

/// F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K … Q6_K, Q2_0. nullptr when unknown.
const GgufType* find_gguf_type(std::uint32_t id);
const GgufType* find_gguf_type(std::string_view name);

/// The grid of Q2_0, Q4_0 and Q8_0, whose weights are (code - zero point) times a binary16 scale:
/// signed-symmetric in groups of 32 (Q2_0's blocks of 64 are two groups with one scale). nullopt for every
/// other type.
std::optional<quant::AffineSpec> gguf_grid(const GgufType& type);

/// The codes of [n, k] weights of such a type, row by row; dequantize() of them is what dequantize_gguf
/// gives, bit for bit up to the sign of zero. CRUMB_CHECKs the type, throws Corrupt as dequantize_gguf.
quant::QuantizedLinear read_gguf_codes(const GgufType& type, std::span<const std::byte> bytes, std::int64_t n,
                                       std::int64_t k);

/// Bytes of `elements` weights; throws Corrupt when the block does not divide them.
std::int64_t gguf_tensor_bytes(const GgufType& type, std::int64_t row_elements, std::int64_t rows);

/// The tensor's bytes, its dims taken as [K, rows...]. Throws Unsupported for a type that crumb does not read
/// (with its name where it is known), Corrupt as above, naming the tensor.
std::int64_t gguf_tensor_bytes(const io::GgufTensor& tensor);

/// Throws unless every tensor of the file has a type that crumb reads and they lie back to back up to the end
/// of the file.
void check_gguf_tensors(const io::GgufFile& file);

/// Values of whole blocks, so a row or any run of rows may be taken alone. elements = out.size(); parallel
/// over blocks. Products and sums are made in f32 in the order of the formulas in docs/formats/gguf.md.
/// Throws Corrupt when bytes and elements do not fit together.
void dequantize_gguf(const GgufType& type, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace crumb::formats
