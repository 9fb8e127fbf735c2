// The engine on OPT, against the model written out in plain loops: positions that are added, LayerNorm, ReLU.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/layer_norm.h"
#include "model/family.h"
#include "runtime/engine.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/tiny_opt.h"

namespace crumb::runtime {
namespace {

using test::TinyOpt;

std::unique_ptr<Engine> load(const std::filesystem::path& path) {
  EngineOptions options;
  options.accuracy = Accuracy::kExact;
  options.threads = 2;
  return Engine::load(path, options);
}

std::vector<std::int32_t> some_ids(std::size_t count) {
  SplitMix64 random(3);
  std::vector<std::int32_t> ids(count);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.next() % 256);
  return ids;
}

std::vector<float> all_logits(Engine& engine, std::span<const std::int32_t> ids) {
  const auto sequence = engine.new_sequence(static_cast<std::int64_t>(ids.size()));
  std::vector<float> out;
  engine.step_all({sequence.get(), ids}, [&](std::int64_t, std::int64_t, std::span<const float> logits) {
    out.insert(out.end(), logits.begin(), logits.end());
  });
  return out;
}

double worst(std::span<const float> got, const std::vector<std::vector<double>>& wanted) {
  double largest = 0;
  std::size_t i = 0;
  for (const auto& row : wanted)
    for (const double v : row) largest = std::max(largest, std::abs(static_cast<double>(got[i++]) - v));
  EXPECT_EQ(i, got.size());
  return largest;
}

// As kExactBound in engine_test.cc; a position off by one, a norm without its mean or a gate that is not
// there show at 10^-1.
constexpr double kBound = 4e-5;

TEST(Opt, LogitsAreThoseOfThePlainLoops) {
  for (const bool biases : {true, false}) {
    for (const char* prefix : {"model.decoder.", "decoder."}) {
      SCOPED_TRACE(prefix);
      TinyOpt model;
      model.biases = biases;
      model.prefix = prefix;
      const test::TempDir folder;
      const auto tensors = tiny_opt_tensors(model);
      write_tiny_opt(folder / "model", model, tensors);
      const auto ids = some_ids(40);
      const auto engine = load(folder / "model");
      EXPECT_LT(worst(all_logits(*engine, ids), plain_opt(model, tensors, ids)), kBound);
    }
  }
}

TEST(Opt, DecodingGoesOnAtTheRightPosition) {
  const TinyOpt model;
  const test::TempDir folder;
  const auto tensors = tiny_opt_tensors(model);
  write_tiny_opt(folder / "model", model, tensors);
  const auto engine = load(folder / "model");
  const auto ids = some_ids(20);
  const auto wanted = plain_opt(model, tensors, ids);
  const auto sequence = engine->new_sequence(20);
  std::size_t done = 0;
  for (const std::size_t piece : {7, 1, 1, 5, 6}) {
    const StepInput input{sequence.get(), std::span(ids).subspan(done, piece)};
    const std::span<const float> logits = engine->step({&input, 1});
    done += piece;
    EXPECT_LT(worst(logits, {wanted[done - 1]}), kBound) << done;
  }
  test::expect_error(ErrorKind::kInvalidArgument, {"65", "64"}, [&] { engine->new_sequence(65); });
}

TEST(Opt, LayerNormIsThatOfF64) {
  SplitMix64 random(1);
  for (const std::int64_t h : {1, 7, 64, 1000}) {
    std::vector<float> x(static_cast<std::size_t>(3 * h)), w(static_cast<std::size_t>(h)), b(w.size());
    for (auto* values : {&x, &w, &b})
      for (float& v : *values)
        v = static_cast<float>(100 + random.uniform());  // far from 0: f32 sums would show
    std::vector<float> y(x.size());
    kernels::layer_norm(x.data(), w.data(), b.data(), 1e-5f, 3, h, y.data());
    for (std::int64_t m = 0; m < 3; ++m) {
      const std::span row =
          std::span(x).subspan(static_cast<std::size_t>(m * h), static_cast<std::size_t>(h));
      double mean = 0, variance = 0;
      for (const float v : row) mean += static_cast<double>(v) / static_cast<double>(h);
      for (const float v : row)
        variance += std::pow(static_cast<double>(v) - mean, 2) / static_cast<double>(h);
      for (std::size_t i = 0; i < row.size(); ++i) {
        const double wanted =
            (static_cast<double>(row[i]) - mean) / std::sqrt(variance + 1e-5) * static_cast<double>(w[i]) +
            static_cast<double>(b[i]);
        EXPECT_NEAR(y[static_cast<std::size_t>(m * h) + i], wanted, 3e-5);
      }
    }
  }
}

}  // namespace
}  // namespace crumb::runtime
