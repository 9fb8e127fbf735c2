#include "runtime/weight_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/log.h"
#include "io/json.h"
#include "runtime/engine.h"
#include "runtime/packed_model.h"
#include "support/expect_error.h"

namespace crumb::runtime {
namespace {

namespace fs = std::filesystem;

class WeightCache : public ::testing::Test {
 protected:
  void SetUp() override {
    const test::TinyTensors tensors = test::tiny_tensors();
    test::write_tiny_model(folder_ / "float", {}, tensors);
    plain_ = test::plain_tensors(tensors);
    test::write_packed_model(folder_ / "float", model(), {2, 32, quant::Grid::kAsym}, plain_);
    log::capture([](log::Level, const std::string&) {});
  }
  void TearDown() override { log::capture(nullptr); }
  fs::path model() const { return folder_ / "packed"; }
  fs::path file() const { return default_weight_cache(model()); }
  std::unique_ptr<Engine> load(int head_bits = 0) const {
    EngineOptions options;
    options.threads = 2;
    options.head_bits = head_bits;
    options.weight_cache = file();
    return Engine::load(model(), options);
  }
  static std::vector<float> logits(Engine& engine) {
    const std::vector<std::int32_t> ids = test::random_ids(20, 1);
    const auto sequence = engine.new_sequence(20);
    const StepInput input{sequence.get(), ids};
    const std::span<const float> out = engine.step({&input, 1});
    return {out.begin(), out.end()};
  }
  void change_byte(std::streamoff at) const {
    std::fstream f(file(), std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(at);
    const char byte = static_cast<char>(f.get());
    f.seekp(at);
    f.put(static_cast<char>(byte ^ 1));
  }

  test::TempDir folder_;
  test::PlainTensors plain_;
};

TEST_F(WeightCache, IsWrittenOnceAndThenMapped) {
  const auto first = load();
  EXPECT_FALSE(first->report().from_cache);
  EXPECT_EQ(first->report().cache_state, "not there; written");
  EXPECT_EQ(fs::file_size(file()), 4096 + static_cast<std::uintmax_t>(first->report().weight_bytes));
  const auto written = fs::last_write_time(file());
  const auto second = load();
  EXPECT_TRUE(second->report().from_cache);
  EXPECT_EQ(second->report().cache_state, "");
  EXPECT_EQ(fs::last_write_time(file()), written);
  EXPECT_EQ(logits(*first), logits(*second));
  for (const auto& entry : fs::directory_iterator(model()))
    EXPECT_EQ(entry.path().filename().string().find("crumb-tmp"), std::string::npos);
}

TEST_F(WeightCache, DamageAnywhereIsSeenAndRepaired) {
  const std::vector<float> wanted = logits(*load());
  const auto size = static_cast<std::streamoff>(fs::file_size(file()));
  for (const std::streamoff at :
       {std::streamoff{0}, std::streamoff{9}, std::streamoff{20}, std::streamoff{100}, std::streamoff{4000},
        std::streamoff{4096}, size / 2, size - 1}) {
    SCOPED_TRACE(at);
    change_byte(at);
    const auto engine = load();
    EXPECT_FALSE(engine->report().from_cache);
    EXPECT_NE(engine->report().cache_state.find("; written"), std::string::npos)
        << engine->report().cache_state;
    EXPECT_EQ(logits(*engine), wanted);
    EXPECT_TRUE(load()->report().from_cache);
  }
  for (const std::uintmax_t bytes : {std::uintmax_t{0}, std::uintmax_t{100}, std::uintmax_t{4096},
                                     static_cast<std::uintmax_t>(size) - 64}) {
    SCOPED_TRACE(bytes);
    fs::resize_file(file(), bytes);
    EXPECT_FALSE(load()->report().from_cache);
    EXPECT_TRUE(load()->report().from_cache);
  }
  std::ofstream(file(), std::ios::app) << "more";
  const auto engine = load();
  EXPECT_NE(engine->report().cache_state.find("damaged"), std::string::npos) << engine->report().cache_state;
}

TEST_F(WeightCache, AnotherModelOrOtherOptionsAreAnotherKey) {
  load();
  EXPECT_FALSE(load(8)->report().from_cache) << "other options";
  EXPECT_TRUE(load(8)->report().from_cache);
  // The same model with one norm changed, at the same place, of the same size.
  test::TinyTensors tensors = test::tiny_tensors();
  tensors.at("model.norm.weight").values[0] += 1.0f;
  test::write_tiny_model(folder_ / "float", {}, tensors);
  fs::path kept = folder_ / "kept";
  fs::rename(file(), kept);
  fs::remove_all(model());
  test::write_packed_model(folder_ / "float", model(), {2, 32, quant::Grid::kAsym}, plain_);
  fs::rename(kept, file());
  const auto engine = load(8);
  EXPECT_FALSE(engine->report().from_cache);
  EXPECT_NE(engine->report().cache_state.find("another model"), std::string::npos)
      << engine->report().cache_state;
}

TEST_F(WeightCache, OneThatCannotBeWrittenIsDoneWithout) {
  const std::vector<float> wanted = logits(*load());
  EngineOptions options;
  options.threads = 2;
  options.head_bits = 0;
  options.weight_cache = folder_ / "no such folder" / "cache";
  const auto engine = Engine::load(model(), options);
  EXPECT_NE(engine->report().cache_state.find("not written"), std::string::npos)
      << engine->report().cache_state;
  EXPECT_EQ(logits(*engine), wanted);
}

}  // namespace
}  // namespace crumb::runtime
