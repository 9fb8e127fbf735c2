// Engines that round activations per token, against plain loops that simulate the same rounding.
#include <gtest/gtest.h>

#include <cstring>

#include "base/str.h"
#include "runtime/engine.h"
#include "runtime/packed_model.h"
#include "support/expect_error.h"

namespace crumb::runtime {
namespace {

using kernels::KvFormat;
using quant::ActivationScheme;
using test::PlainRounding;
using test::PlainTensors;
using test::TinyModel;

using Logits = std::vector<std::vector<float>>;
using Wanted = std::vector<std::vector<double>>;

/// As in engine_test.cc: f32 through two blocks.
constexpr double kBound = 2e-5;
/// Errors of f32 in front of a rounding are some 2^-20 of the vector's largest number, see there: with no
/// quotient nearer to a tie than this part of the largest code, engine and plain loops take the same codes.
constexpr double kMargin = 3e-6;

std::unique_ptr<Engine> load(const std::filesystem::path& path, Accuracy accuracy,
                             const std::function<void(EngineOptions&)>& change = {}) {
  EngineOptions options;
  options.accuracy = accuracy;
  options.threads = 2;
  options.head_bits = 0;  // as the simulation, which rounds nothing at the head
  if (change) change(options);
  return Engine::load(path, options);
}

Logits all_logits(Engine& engine, std::span<const std::int32_t> ids) {
  const auto sequence = engine.new_sequence(static_cast<std::int64_t>(ids.size()));
  Logits out;
  engine.step_all({sequence.get(), ids}, [&](std::int64_t, std::int64_t rows, std::span<const float> logits) {
    const std::size_t width = logits.size() / static_cast<std::size_t>(rows);
    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r)
      out.emplace_back(logits.begin() + static_cast<std::ptrdiff_t>(r * width),
                       logits.begin() + static_cast<std::ptrdiff_t>((r + 1) * width));
  });
  return out;
}

template <class Rows>
double worst(const Rows& got, const Wanted& wanted) {
  double out = got.size() == wanted.size() ? 0 : 1e300;
  for (std::size_t p = 0; p < std::min(got.size(), wanted.size()); ++p) {
    for (std::size_t i = 0; i < wanted[p].size(); ++i) {
      const double e = std::abs(static_cast<double>(got[p][i]) - wanted[p][i]);
      out = std::isnan(e) ? 1e300 : std::max(out, e);
    }
  }
  return out;
}

template <class Rows>
double root_mean_square(const Rows& got, const Wanted& wanted) {
  double sum = 0, count = 0;
  for (std::size_t p = 0; p < wanted.size(); ++p) {
    for (std::size_t i = 0; i < wanted[p].size(); ++i, ++count) {
      const double e = static_cast<double>(got[p][i]) - wanted[p][i];
      sum += e * e;
    }
  }
  return std::sqrt(sum / count);
}

PlainRounding plain_rounding(const ActivationScheme& s) {
  return {s.bits, s.kv_bits, s.symmetric, 1};
}

/// Small, so that prompts without a quotient near a tie are found.
TinyModel small(TinyModel model) {
  model.hidden = 32;
  model.intermediate = 64;
  model.heads = 2;
  model.kv_heads = 1;
  return model;
}

struct Family {
  std::string name;
  TinyModel model;
};
std::vector<Family> families() {
  std::vector<Family> all(3);
  all[0] = {"llama", small({})};
  all[1] = {"qwen2", small({})};
  all[1].model.family = "qwen2";
  all[1].model.architecture = "Qwen2ForCausalLM";
  all[1].model.qkv_bias = true;
  all[2] = {"qwen3", small({})};
  all[2].model.family = "qwen3";
  all[2].model.architecture = "Qwen3ForCausalLM";
  all[2].model.qk_norm = true;
  return all;
}

struct Case {
  ActivationScheme activations;
  quant::AffineSpec weights;
};
const Case kCases[] = {
    {{8, 8, true}, {8, -1, quant::Grid::kAsym}},        // W8A8 as SmoothQuant's; the cache is int8
    {{8, 16, true}, {8, -1, quant::Grid::kSignedSym}},  // keys and values whole
    {{6, 6, false}, {8, -1, quant::Grid::kAsym}},       // W6A6: 6-bit weights lie in 8-bit fields
    {{4, 4, false}, {4, 32, quant::Grid::kAsym}},       // W4A4 as OmniQuant's; the cache is int4
    {{4, 8, false}, {4, -1, quant::Grid::kAsym}},       // the cache rounds otherwise
    {{8, 8, false}, {8, 32, quant::Grid::kAsym}},       // no int8 number holds these codes
    {{16, 4, false}, {2, 32, quant::Grid::kAsym}},      // keys and values alone
};

std::string name_of(const Case& c) {
  return cat(quant::scheme_name(c.weights), quant::scheme_name(c.activations));
}

/// Prompts whose plain forward pass meets no quotient near a tie.
std::vector<std::vector<std::int32_t>> clear_prompts(const model::ModelConfig& config,
                                                     const PlainTensors& plain, const ActivationScheme& s) {
  std::vector<std::vector<std::int32_t>> found;
  for (std::uint64_t seed = 1; seed <= 400 && found.size() < 3; ++seed) {
    PlainRounding rounding = plain_rounding(s);
    const std::vector<std::int32_t> ids = test::random_ids(5, seed);
    test::plain_forward(config, plain, ids, &rounding);
    if (rounding.nearest_tie > kMargin) found.push_back(ids);
  }
  EXPECT_EQ(found.size(), 3u) << "no prompts without a quotient near a tie";
  return found;
}

TEST(RoundedActivations, EqualThePlainSimulationInEveryFamily) {
  for (const auto& [family, model] : families()) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(cat(family, " ", name_of(c)));
      const test::TempDir folder;
      const test::TinyTensors tensors = test::tiny_tensors(model);
      test::write_tiny_model(folder / "float", model, tensors);
      PlainTensors plain = test::plain_tensors(tensors);
      test::write_packed_model(folder / "float", folder / "packed", c.weights, plain, c.activations);
      const auto own = load(folder / "packed", Accuracy::kInt8);
      EXPECT_EQ(*own->options().activations, c.activations) << "what the directory says";
      // The default cache where it is the simulation's own rounding, else f32 to leave f16's out.
      const bool natural = *own->options().kv_format != KvFormat::kF16;
      EXPECT_EQ(natural, (c.activations.kv_bits == 8 && c.activations.symmetric) ||
                             (c.activations.kv_bits == 4 && !c.activations.symmetric));
      const auto integers = load(folder / "packed", Accuracy::kInt8, [&](EngineOptions& o) {
        if (!natural) o.kv_format = KvFormat::kF32;
      });
      const auto floats = load(folder / "packed", Accuracy::kExact);
      for (const auto& ids : clear_prompts(own->config(), plain, c.activations)) {
        PlainRounding rounding = plain_rounding(c.activations);
        const Wanted wanted = test::plain_forward(own->config(), plain, ids, &rounding);
        const Logits got = all_logits(*integers, ids), exact = all_logits(*floats, ids);
        EXPECT_LT(worst(exact, wanted), kBound);
        // Where the scheme leaves the inputs of linears, int8 rounds them in its own way.
        if (c.activations.bits < 16) {
          EXPECT_LT(worst(got, wanted), kBound);
        }
        // Negative controls: without rounding, with the other grid, with another width.
        for (const ActivationScheme& other :
             {ActivationScheme{},
              ActivationScheme{c.activations.bits, c.activations.kv_bits, !c.activations.symmetric},
              ActivationScheme{c.activations.bits, c.activations.kv_bits == 16 ? 8 : 16,
                               c.activations.symmetric}}) {
          PlainRounding differs = plain_rounding(other);
          EXPECT_GT(worst(exact, test::plain_forward(own->config(), plain, ids, &differs)), 10 * kBound);
        }
      }
    }
  }
}

// Long prompts of a larger model meet ties. A code that flips moves everything behind it by about what the
// rounding itself does, as it does between any two orders of summation; how far logits lie from those of the
// floats must not change by that. Half a bit more or less would change it by 1.4.
TEST(RoundedActivations, CostWhatTheSimulationCostsInLongPrompts) {
  const std::vector<std::int32_t> ids = test::random_ids(60, 4);
  for (const Case& c : kCases) {
    SCOPED_TRACE(name_of(c));
    const test::TempDir folder;
    const test::TinyTensors tensors = test::tiny_tensors();
    test::write_tiny_model(folder / "float", {}, tensors);
    PlainTensors plain = test::plain_tensors(tensors);
    test::write_packed_model(folder / "float", folder / "packed", c.weights, plain, c.activations);
    const auto exact = load(folder / "packed", Accuracy::kExact);
    PlainRounding rounding = plain_rounding(c.activations);
    const Wanted whole = test::plain_forward(exact->config(), plain, ids);
    const double cost = root_mean_square(test::plain_forward(exact->config(), plain, ids, &rounding), whole);
    const auto expect_cost = [&](Engine& engine) {
      const double ratio = root_mean_square(all_logits(engine, ids), whole) / cost;
      EXPECT_GT(ratio, 0.85);
      EXPECT_LT(ratio, 1.18);
    };
    expect_cost(*exact);
    if (c.activations.bits == 16) continue;  // int8 rounds the inputs of linears in its own way then
    expect_cost(*load(folder / "packed", Accuracy::kInt8));
  }
}

TEST(RoundedActivations, LinearsOfFloatsTakeThemToo) {
  const TinyModel model = small({});
  const test::TempDir folder;
  const test::TinyTensors tensors = test::tiny_tensors(model);
  test::write_tiny_model(folder / "float", model, tensors);
  const PlainTensors plain = test::plain_tensors(tensors);
  for (const ActivationScheme& scheme : {ActivationScheme{8, 8, true}, ActivationScheme{4, 4, false}}) {
    const auto engine =
        load(folder / "float", Accuracy::kInt8, [&](EngineOptions& o) { o.activations = scheme; });
    for (const auto& ids : clear_prompts(engine->config(), plain, scheme)) {
      PlainRounding rounding = plain_rounding(scheme);
      EXPECT_LT(worst(all_logits(*engine, ids), test::plain_forward(engine->config(), plain, ids, &rounding)),
                kBound);
    }
  }
}

// Values so small that the floor of their scale decides, which the integer caches have to know of.
TEST(RoundedActivations, CachesKeepTheFloorOfTheScale) {
  const TinyModel model = small({});
  const test::TempDir folder;
  test::TinyTensors tensors = test::tiny_tensors(model);
  for (auto& [name, tensor] : tensors) {
    const bool small_values = name.find("v_proj") != std::string::npos;
    if (small_values || name.find("o_proj") != std::string::npos)
      for (float& w : tensor.values) w *= small_values ? 0x1p-14f : 0x1p14f;
  }
  test::write_tiny_model(folder / "float", model, tensors);
  const PlainTensors plain = test::plain_tensors(tensors);
  for (const ActivationScheme& scheme : {ActivationScheme{16, 8, true}, ActivationScheme{16, 4, false}}) {
    for (const bool in_cache : {true, false}) {
      const auto engine = load(folder / "float", Accuracy::kInt8, [&](EngineOptions& o) {
        o.activations = scheme;
        if (!in_cache) o.kv_format = KvFormat::kF32;
      });
      EXPECT_EQ(*engine->options().kv_format == KvFormat::kF32, !in_cache);
      for (const auto& ids : clear_prompts(engine->config(), plain, scheme)) {
        PlainRounding rounding = plain_rounding(scheme);
        EXPECT_LT(
            worst(all_logits(*engine, ids), test::plain_forward(engine->config(), plain, ids, &rounding)),
            kBound)
            << quant::scheme_name(scheme) << (in_cache ? " in the cache" : " before it");
      }
    }
  }
}

TEST(RoundedActivations, BitsDependOnNeitherNeighboursChunksNorThreads) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(name_of(c));
    const test::TempDir folder;
    const test::TinyTensors tensors = test::tiny_tensors();
    test::write_tiny_model(folder / "float", {}, tensors);
    PlainTensors plain = test::plain_tensors(tensors);
    test::write_packed_model(folder / "float", folder / "packed", c.weights, plain, c.activations);
    const std::vector<std::vector<std::int32_t>> prompts = {test::random_ids(37, 1), test::random_ids(60, 3)};
    const auto alone = load(folder / "packed", Accuracy::kInt8, [](EngineOptions& o) { o.threads = 1; });
    std::vector<Logits> wanted;
    for (const auto& ids : prompts) wanted.push_back(all_logits(*alone, ids));
    for (const std::int64_t chunk : {1, 7, 256}) {
      const auto together = load(folder / "packed", Accuracy::kInt8, [&](EngineOptions& o) {
        o.threads = 3;
        o.chunk_tokens = chunk;
      });
      const auto a = together->new_sequence(64), b = together->new_sequence(64);
      const std::vector<StepInput> batch = {{a.get(), prompts[0]}, {b.get(), prompts[1]}};
      const std::span<const float> logits = together->step(batch);
      const std::size_t width = logits.size() / 2;
      for (std::size_t i = 0; i < 2; ++i)
        EXPECT_EQ(std::memcmp(logits.data() + i * width, wanted[i].back().data(), width * 4), 0) << i;
    }
  }
}

TEST(RoundedActivations, AreNamedAndWrongOnesRefused) {
  const test::TempDir folder;
  const test::TinyTensors tensors = test::tiny_tensors();
  test::write_tiny_model(folder / "float", {}, tensors);
  PlainTensors plain;
  test::write_packed_model(folder / "float", folder / "packed", {8, -1, quant::Grid::kAsym}, plain,
                           ActivationScheme{8, 8, true});
  const auto says = [&](Accuracy accuracy, const std::function<void(EngineOptions&)>& change = {}) {
    return load(folder / "packed", accuracy, change)->describe();
  };
  EXPECT_NE(says(Accuracy::kInt8).find("a8kv8 int8 activations, cache int8"), std::string::npos);
  EXPECT_NE(says(Accuracy::kExact).find("a8kv8 exact f32 activations, cache f32"), std::string::npos);
  EXPECT_NE(says(Accuracy::kInt8,
                 [](EngineOptions& o) {
                   o.activations = {8, 8, false};
                 })
                .find("a8kv8 asym f32 activations, cache f16"),
            std::string::npos);
  EXPECT_NE(says(Accuracy::kInt8, [](EngineOptions& o) { o.activations = ActivationScheme{}; })
                .find(", int8 activations, cache f16"),
            std::string::npos)
      << "the caller's word comes first";
  test::expect_error(ErrorKind::kInvalidArgument, {"activations of 12 bits", "2 … 8"}, [&] {
    load(folder / "packed", Accuracy::kInt8, [](EngineOptions& o) { o.activations = {12, 8, true}; });
  });
}

}  // namespace
}  // namespace crumb::runtime
