// GGUF tensor types, read by dequantizing. docs/formats/gguf.md.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

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

/// Bytes of `elements` weights; throws Corrupt when the block does not divide them.
std::int64_t gguf_tensor_bytes(const GgufType& type, std::int64_t row_elements, std::int64_t rows);

/// elements = out.size(); parallel over blocks.
void dequantize_gguf(const GgufType& type, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace crumb::formats
