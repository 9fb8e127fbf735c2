// A fuzz target without libFuzzer: every file of a corpus, and for some seconds random changes of them. The
// same seed gives the same inputs; a crash prints the seed's number.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/rng.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

/// One to eight changes: bits, bytes, numbers that sizes go wrong at, pieces removed, repeated or cut off.
Input changed(Input input, crumb::SplitMix64& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random.next() % n); };
  static constexpr std::uint64_t kNumbers[] = {0,
                                               1,
                                               0x7f,
                                               0x80,
                                               0xff,
                                               0x7fff,
                                               0xffff,
                                               0x7fffffff,
                                               0x80000000,
                                               0xffffffff,
                                               0x7fffffffffffffff,
                                               0xffffffffffffffff};
  for (std::size_t change = 1 + below(8); change > 0 && !input.empty(); --change) {
    // Heads of files decide most.
    const std::size_t at =
        below(2) == 0 ? below(std::min<std::size_t>(input.size(), 4096)) : below(input.size());
    switch (below(6)) {
      case 0:
        input[at] ^= static_cast<std::uint8_t>(1u << below(8));
        break;
      case 1:
        input[at] = static_cast<std::uint8_t>(random.next());
        break;
      case 2: {
        const std::uint64_t number = kNumbers[below(std::size(kNumbers))];
        const std::size_t width = std::size_t{1} << below(4);
        for (std::size_t i = 0; i < width && at + i < input.size(); ++i)
          input[at + i] = static_cast<std::uint8_t>(number >> 8 * i);
        break;
      }
      case 3:
        input.erase(input.begin() + static_cast<std::ptrdiff_t>(at),
                    input.begin() + static_cast<std::ptrdiff_t>(
                                        at + below(std::min<std::size_t>(64, input.size() - at))));
        break;
      case 4: {
        const Input piece(input.begin() + static_cast<std::ptrdiff_t>(at),
                          input.begin() + static_cast<std::ptrdiff_t>(
                                              at + below(std::min<std::size_t>(64, input.size() - at))));
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), piece.begin(), piece.end());
        break;
      }
      default:
        if (below(8) == 0)
          input.resize(at);
        else if (std::isdigit(input[at]) != 0)
          input[at] = static_cast<std::uint8_t>('0' + below(10));
    }
  }
  return input;
}

}  // namespace

int main(int count, char** values) {
  if (count != 3) {
    std::fputs("usage: TARGET CORPUS SECONDS\n", stderr);
    return 2;
  }
  std::vector<Input> corpus;
  for (const auto& entry : std::filesystem::directory_iterator(values[1])) {
    std::ifstream in(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: no seeds\n", values[1]);
    return 2;
  }
  for (const Input& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(std::atof(values[2]));
  std::uint64_t inputs = 0;
  for (; std::chrono::steady_clock::now() < end; ++inputs) {
    crumb::SplitMix64 random(inputs);
    const Input input = changed(corpus[static_cast<std::size_t>(random.next() % corpus.size())], random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu seeds and %llu changed inputs\n", corpus.size(), static_cast<unsigned long long>(inputs));
  return 0;
}
