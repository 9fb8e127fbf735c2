// How far one weight is from another.
#pragma once
#include <cmath>
#include <cstddef>
#include <span>

#include "base/check.h"

namespace crumb::quant {

/// ||a - b|| / ||a|| over the parts added, sums in f64; 0 when the two are equal, 1 when only ||a|| is 0.
class RelativeError {
 public:
  /// As many values in both.
  void add(std::span<const float> a, std::span<const float> b) {
    CRUMB_CHECK(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double d = static_cast<double>(a[i]) - b[i];
      difference_ += d * d;
      norm_ += static_cast<double>(a[i]) * a[i];
      same_ = same_ && a[i] == b[i];
    }
  }
  /// Whether every value was equal; a difference whose square is below f64's range counts.
  bool none() const { return same_; }
  double value() const { return norm_ == 0 ? (same_ ? 0 : 1) : std::sqrt(difference_ / norm_); }

 private:
  double difference_ = 0, norm_ = 0;
  bool same_ = true;
};

/// Of two whole weights.
inline double relative_error(std::span<const float> a, std::span<const float> b) {
  RelativeError error;
  error.add(a, b);
  return error.value();
}

}  // namespace crumb::quant
