// NumPy's default generator for the one call that corpora need: a seeded permutation.
#pragma once
#include <cstdint>
#include <vector>

namespace crumb::data {

/// numpy.random.default_rng(seed).permutation(count): SeedSequence, PCG64 (O'Neill 2014, XSL-RR 128/64),
/// bounded integers by masking and rejection, Fisher-Yates from the end. Hugging Face `datasets` shuffles
/// with it. Equal to NumPy's for count <= 2^32.
std::vector<std::int64_t> numpy_permutation(std::uint64_t seed, std::int64_t count);

}  // namespace crumb::data
