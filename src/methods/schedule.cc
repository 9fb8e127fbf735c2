#include "methods/schedule.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace crumb::methods {

std::vector<double> block_ap_schedule(double lr, double min_lr_factor, std::int64_t steps) {
  CRUMB_CHECK(steps >= 1 && min_lr_factor > 0);
  const double eta = lr / min_lr_factor, total = static_cast<double>(steps);
  const auto raised = [&](std::int64_t k) {
    return 1 + std::cos(std::numbers::pi * static_cast<double>(k) / total);
  };
  std::vector<double> rates(static_cast<std::size_t>(steps), lr);
  for (std::int64_t k = 1; k < steps; ++k) {
    const double plain = eta + (lr - eta) * raised(k) / 2;
    rates[static_cast<std::size_t>(k)] = eta + (plain - eta) * raised(k) / raised(k - 1);
  }
  return rates;
}

std::vector<double> warmup_cosine_schedule(double lr, double warmup_ratio, std::int64_t steps) {
  CRUMB_CHECK(steps >= 1 && warmup_ratio >= 0 && warmup_ratio <= 1);
  const auto warmup = static_cast<std::int64_t>(std::ceil(warmup_ratio * static_cast<double>(steps)));
  std::vector<double> rates(static_cast<std::size_t>(steps));
  for (std::int64_t k = 0; k < steps; ++k) {
    if (k < warmup) {
      rates[static_cast<std::size_t>(k)] = lr * static_cast<double>(k) / static_cast<double>(warmup);
    } else {
      const double done =
          static_cast<double>(k - warmup) / static_cast<double>(std::max<std::int64_t>(1, steps - warmup));
      rates[static_cast<std::size_t>(k)] = lr * 0.5 * (1 + std::cos(std::numbers::pi * done));
    }
  }
  return rates;
}

}  // namespace crumb::methods
