#include "base/rng.h"

#include <bit>
#include <sstream>

#include "base/check.h"

namespace crumb {

PythonRandom::PythonRandom(std::uint64_t seed) {
  // CPython seeds by init_by_array over the 32-bit chunks of |seed|, least significant first (at least one
  // chunk). The state is built here and handed to std::mt19937 through its textual form, the only way the
  // standard gives to set it.
  std::uint32_t key[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  const std::size_t key_length = key[1] != 0 ? 2 : 1;
  std::uint32_t mt[624];
  mt[0] = 19650218u;
  for (std::uint32_t i = 1; i < 624; ++i) mt[i] = 1812433253u * (mt[i - 1] ^ (mt[i - 1] >> 30)) + i;
  std::size_t i = 1, j = 0;
  for (std::size_t k = 624; k > 0; --k) {
    mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1664525u)) + key[j] + static_cast<std::uint32_t>(j);
    if (++i >= 624) {
      mt[0] = mt[623];
      i = 1;
    }
    if (++j >= key_length) j = 0;
  }
  for (std::size_t k = 623; k > 0; --k) {
    mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1566083941u)) - static_cast<std::uint32_t>(i);
    if (++i >= 624) {
      mt[0] = mt[623];
      i = 1;
    }
  }
  mt[0] = 0x80000000u;
  std::stringstream text;
  for (std::uint32_t word : mt) text << word << ' ';
  text << 624;  // position: the next call refills the state, as after init_by_array
  text >> engine_;
  CRUMB_CHECK(!text.fail());
}

std::uint64_t PythonRandom::below(std::uint64_t n) {
  const int bits = std::bit_width(n);
  CRUMB_CHECK(bits >= 1 && bits <= 64);
  const auto draw = [&]() -> std::uint64_t {
    if (bits <= 32) return next32() >> (32 - bits);
    const std::uint64_t low = next32();  // CPython fills words from the least significant
    return low | (static_cast<std::uint64_t>(next32() >> (64 - bits)) << 32);
  };
  std::uint64_t value = draw();
  while (value >= n) value = draw();
  return value;
}

std::int64_t PythonRandom::randint(std::int64_t low, std::int64_t high) {
  CRUMB_CHECK(low <= high);
  return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
}

}  // namespace crumb
