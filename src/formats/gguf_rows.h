// The order of q and k rows in GGUF files of llama.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace crumb::formats {

/// llama.cpp rotates rows 2i and 2i + 1 of a head together, Hugging Face i and i + D/2: row i of a head is
/// stored as row 2i, row i + D/2 as row 2i + 1. The model's row that is stored as `row`, of all heads' rows.
inline std::int64_t model_row_of(std::int64_t row, std::int64_t head_dim) {
  const std::int64_t i = row % head_dim;
  return row - i + (i % 2 == 0 ? i / 2 : head_dim / 2 + i / 2);
}

/// To llama.cpp's order: x [heads * D, K] in place; a bias is a column, K = 1.
template <class T>
void to_gguf_rows(std::vector<T>& x, std::int64_t heads, std::int64_t head_dim, std::int64_t k) {
  const std::vector<T> model = x;
  for (std::int64_t row = 0; row < heads * head_dim; ++row)
    std::copy_n(model.begin() + model_row_of(row, head_dim) * k, k, x.begin() + row * k);
}

/// The inverse.
template <class T>
void from_gguf_rows(std::vector<T>& x, std::int64_t heads, std::int64_t head_dim, std::int64_t k) {
  const std::vector<T> stored = x;
  for (std::int64_t row = 0; row < heads * head_dim; ++row)
    std::copy_n(stored.begin() + row * k, k, x.begin() + model_row_of(row, head_dim) * k);
}

}  // namespace crumb::formats
