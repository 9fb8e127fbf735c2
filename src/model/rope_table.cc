#include "model/rope_table.h"

#include <cmath>

namespace crumb::model {

void fill_rope_table(const RopeFrequencies& frequencies, std::int64_t first, std::int64_t count, float* cos,
                     float* sin) {
  const std::size_t half = frequencies.inv_freq.size();
  for (std::int64_t t = 0; t < count; ++t) {
    for (std::size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(first + t) * static_cast<float>(frequencies.inv_freq[i]);
      *cos++ = static_cast<float>(std::cos(static_cast<double>(angle)) * frequencies.attention_scaling);
      *sin++ = static_cast<float>(std::sin(static_cast<double>(angle)) * frequencies.attention_scaling);
    }
  }
}

}  // namespace crumb::model
