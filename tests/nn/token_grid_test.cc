// The training's simulation of rounded activations and the runtime's scalar truth are one arithmetic.
#include "quant/token_grid.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "nn/activation_quant.h"

namespace crumb::nn {
namespace {

TEST(TokenGrid, HasTheBitsOfTheSimulation) {
  SplitMix64 random(3);
  for (const std::int64_t width : {7, 64, 577}) {
    at::Tensor x = at::empty({40, width});
    auto rows = x.accessor<float, 2>();
    for (std::int64_t r = 0; r < 40; ++r) {
      const double size = std::pow(10.0, static_cast<double>(r % 12) - 7);  // from below the floor to 1e4
      for (std::int64_t i = 0; i < width; ++i)
        rows[r][i] = static_cast<float>(size * (2 * random.uniform() - (r % 3 == 0   ? 0.0
                                                                        : r % 3 == 1 ? 2.0
                                                                                     : 1.0)));
    }
    x[5].zero_();
    x[6].fill_(0.3f);
    for (std::int64_t i = 0; i < width; ++i) {
      rows[7][i] = static_cast<float>(i % 250) - 124.5f;  // ties
      rows[8][i] = static_cast<float>(i % 16) - 7.5f;
      rows[9][i] = i % 2 == 0 ? 2e6f : -3e38f;  // a scale of 1e4
    }
    rows[7][0] = 127;
    for (const bool symmetric : {true, false}) {
      for (int bits = 2; bits <= 8; ++bits) {
        const ActivationQuants quants = ActivationQuants::dynamic(bits, bits, symmetric, /*holds_zero=*/true);
        const at::Tensor y = fake_quant_activation(x, quants.linear_inputs[0]);
        const auto got = y.accessor<float, 2>();
        for (std::int64_t r = 0; r < 40; ++r) {
          const quant::TokenGrid grid =
              quant::token_grid({&rows[r][0], static_cast<std::size_t>(width)}, bits, symmetric);
          for (std::int64_t i = 0; i < width; ++i)
            ASSERT_EQ(got[r][i], quant::fake_quant_one(rows[r][i], grid))
                << bits << " bits " << symmetric << " row " << r << " of " << width << " at " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace crumb::nn
