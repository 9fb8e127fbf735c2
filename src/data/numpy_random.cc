#include "data/numpy_random.h"

#include <array>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace crumb::data {
namespace {

__extension__ using Uint128 = unsigned __int128;

// SeedSequence: spreads a seed over a pool of four words and draws the generator's state from it.
std::array<std::uint64_t, 4> seed_state(std::uint64_t seed) {
  constexpr std::uint32_t kInitA = 0x43b0d7e5, kMultA = 0x931e8875, kInitB = 0x8b51f9dd, kMultB = 0x58f38ded;
  constexpr std::uint32_t kMixLeft = 0xca01f9dd, kMixRight = 0x4973f715;
  std::array<std::uint32_t, 4> pool{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                                    0, 0};
  std::uint32_t constant = kInitA;
  const auto hash = [&constant](std::uint32_t value, std::uint32_t factor) {
    value ^= constant;
    constant *= factor;
    value *= constant;
    return value ^ (value >> 16);
  };
  for (std::uint32_t& word : pool) word = hash(word, kMultA);
  for (std::size_t from = 0; from < 4; ++from) {
    for (std::size_t to = 0; to < 4; ++to) {
      if (from == to) continue;
      const std::uint32_t mixed = kMixLeft * pool[to] - kMixRight * hash(pool[from], kMultA);
      pool[to] = mixed ^ (mixed >> 16);
    }
  }
  constant = kInitB;
  std::array<std::uint64_t, 4> state{};
  for (std::size_t i = 0; i < 8; ++i)
    state[i / 2] |= static_cast<std::uint64_t>(hash(pool[i % 4], kMultB)) << (32 * (i % 2));
  return state;
}

class Pcg64 {
 public:
  explicit Pcg64(std::uint64_t seed) {
    const auto words = seed_state(seed);
    increment_ = (((static_cast<Uint128>(words[2]) << 64) | words[3]) << 1) | 1;
    step();
    state_ += (static_cast<Uint128>(words[0]) << 64) | words[1];
    step();
  }

  std::uint32_t next32() {
    if (std::exchange(has_half_, !has_half_)) return static_cast<std::uint32_t>(word_ >> 32);
    step();
    const auto folded = static_cast<std::uint64_t>(state_ >> 64) ^ static_cast<std::uint64_t>(state_);
    const auto turn = static_cast<unsigned>(state_ >> 122);
    word_ = (folded >> turn) | (folded << ((64 - turn) & 63));
    return static_cast<std::uint32_t>(word_);
  }

  // Uniform in [0, last], last < 2^32: the lowest bits that can hold it, drawn again while they are above.
  std::uint32_t bounded(std::uint32_t last) {
    const std::uint32_t mask = std::numeric_limits<std::uint32_t>::max() >> std::countl_zero(last | 1u);
    std::uint32_t value;
    do {
      value = next32() & mask;
    } while (value > last);
    return value;
  }

 private:
  void step() {
    state_ =
        state_ * ((static_cast<Uint128>(0x2360ED051FC65DA4ULL) << 64) | 0x4385DF649FCCF645ULL) + increment_;
  }
  Uint128 state_ = 0, increment_ = 0;
  std::uint64_t word_ = 0;
  bool has_half_ = false;
};

}  // namespace

std::vector<std::int64_t> numpy_permutation(std::uint64_t seed, std::int64_t count) {
  CRUMB_CHECK(count >= 0 && count < std::numeric_limits<std::uint32_t>::max());
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  Pcg64 random(seed);
  for (std::size_t i = order.size(); i-- > 1;)
    std::swap(order[i], order[random.bounded(static_cast<std::uint32_t>(i))]);
  return order;
}

}  // namespace crumb::data
