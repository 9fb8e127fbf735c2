// Hugging Face directories: what is read, and every way in which one can be broken.
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "formats/checkpoint.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

namespace crumb::formats {
namespace {

using nlohmann::ordered_json;
using test::expect_error;
using test::TinyModel;
using test::TinyTensors;
namespace fs = std::filesystem;

constexpr const char* kUp = "model.layers.1.mlp.up_proj.weight";

TinyModel qwen(const char* family, const char* architecture) {
  TinyModel m;
  m.family = family;
  m.architecture = architecture;
  return m;
}

void expect_same_tensors(const Checkpoint& checkpoint, const TinyTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(checkpoint.has(name)) << name;
    EXPECT_EQ(checkpoint.shape(name), tensor.shape) << name;
    EXPECT_EQ(checkpoint.read_f32(name), tensor.values) << name;
  }
}

// Opens what `change` made of a good model.
template <class Change>
void open_changed(const Change& change, TinyModel model = {}) {
  const test::TempDir folder;
  TinyTensors tensors = test::tiny_tensors(model);
  change(model, tensors);
  test::write_tiny_model(folder.path(), model, tensors);
  Checkpoint::open(folder.path());
}

class StoredDtype : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(HfCheckpoint, StoredDtype, ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& param_info) { return std::string(to_string(param_info.param)); });

TEST_P(StoredDtype, GivesTheSameValuesInOneFileAndInShards) {
  const TinyTensors tensors = test::tiny_tensors();
  for (const std::int64_t shard_bytes : {std::int64_t{0}, std::int64_t{40'000}}) {
    const test::TempDir folder;
    test::write_tiny_model(folder.path(), {}, tensors, GetParam(), shard_bytes);
    const auto checkpoint = Checkpoint::open(folder.path());
    expect_same_tensors(*checkpoint, tensors);
    EXPECT_EQ(checkpoint->kind(), CheckpointKind::kHuggingFace);
    EXPECT_EQ(checkpoint->float_dtype(kUp), GetParam());
    EXPECT_EQ(checkpoint->describe().find("shards") != std::string::npos, shard_bytes > 0)
        << checkpoint->describe();
    std::int64_t elements = 0;
    for (const auto& [name, tensor] : tensors) elements += static_cast<std::int64_t>(tensor.values.size());
    EXPECT_EQ(checkpoint->tensor_bytes(), elements * size_bytes(GetParam()));
    EXPECT_FALSE(checkpoint->packed_spec());
    EXPECT_FALSE(checkpoint->read_packed("model.layers.0.mlp.up_proj"));
  }
}

TEST(HfCheckpoint, ReadsEveryFamily) {
  TinyModel qwen2 = qwen("qwen2", "Qwen2ForCausalLM"), qwen3 = qwen("qwen3", "Qwen3ForCausalLM");
  qwen2.qkv_bias = qwen2.tied = true;
  qwen3.qk_norm = true;
  qwen3.head_dim = 32;  // 4 heads of 32, hidden 64
  TinyModel llama;
  llama.qkv_bias = llama.output_bias = llama.mlp_bias = true;
  for (const TinyModel& model : {qwen2, qwen3, llama, qwen("mistral", "MistralForCausalLM")}) {
    SCOPED_TRACE(model.family);
    const test::TempDir folder;
    const TinyTensors tensors = test::tiny_tensors(model);
    test::write_tiny_model(folder.path(), model, tensors);
    const auto checkpoint = Checkpoint::open(folder.path());
    EXPECT_EQ(checkpoint->config().family, model.family);
    EXPECT_EQ(checkpoint->config().qk_norm, model.qk_norm);
    expect_same_tensors(*checkpoint, tensors);
  }
}

TEST(HfCheckpoint, KeepsTheConfigurationVerbatimAndListsCompanions) {
  const test::TempDir folder;
  test::write_tiny_model(folder.path());
  const std::string config = "  " + test::tiny_config().dump(4) + "\n\n";
  std::ofstream(folder / "config.json") << config;
  std::ofstream(folder / "generation_config.json") << "{}";
  std::ofstream(folder / "modeling_evil.py") << "x";
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint->config_json(), config);
  std::vector<std::string> names;
  for (const fs::path& file : checkpoint->companion_files()) names.push_back(file.filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names,
            (std::vector<std::string>{"generation_config.json", "tokenizer.json", "tokenizer_config.json"}));
}

TEST(HfCheckpoint, NamesTheTensorThatIsMissingOrHasAnotherShape) {
  expect_error(ErrorKind::kNotFound, {kUp, "[128, 64]"},
               [] { open_changed([](TinyModel&, TinyTensors& t) { t.erase(kUp); }); });
  expect_error(ErrorKind::kNotFound, {"lm_head.weight"},
               [] { open_changed([](TinyModel&, TinyTensors& t) { t.erase("lm_head.weight"); }); });
  expect_error(ErrorKind::kCorrupt, {kUp, "[64, 128]", "[128, 64]"}, [] {
    open_changed([](TinyModel&, TinyTensors& t) { std::swap(t.at(kUp).shape[0], t.at(kUp).shape[1]); });
  });
  expect_error(ErrorKind::kNotFound, {"model.layers.2."}, [] {
    open_changed([](TinyModel& m, TinyTensors&) { m.changes["num_hidden_layers"] = 2147483647; });
  });
}

// A bias that config.json does not mention would be left out of the model, or of the quantized copy, in
// silence.
TEST(HfCheckpoint, RefusesTensorsThatTheConfigurationDoesNotHave) {
  TinyModel biased;
  biased.qkv_bias = true;
  expect_error(ErrorKind::kCorrupt, {"model.layers.0.self_attn.q_proj.bias", "llama"},
               [&] { open_changed([](TinyModel&, TinyTensors&) {}, biased); });
  TinyModel normed;
  normed.qk_norm = true;
  expect_error(ErrorKind::kCorrupt, {"q_norm.weight"},
               [&] { open_changed([](TinyModel&, TinyTensors&) {}, normed); });
  expect_error(ErrorKind::kCorrupt, {"model.layers.1.", "num_hidden_layers is 1"},
               [] { open_changed([](TinyModel& m, TinyTensors&) { m.changes["num_hidden_layers"] = 1; }); });
  EXPECT_NO_THROW(open_changed(
      [](TinyModel&, TinyTensors& t) {
        for (auto& [name, tensor] : t) {
          if (name.ends_with(".bias")) std::fill(tensor.values.begin(), tensor.values.end(), 0.0f);
        }
      },
      biased))
      << "a bias of zeros changes nothing";
}

TEST(HfCheckpoint, NamesTheTensorAndIndexOfANan) {
  const test::TempDir folder;
  TinyTensors tensors = test::tiny_tensors();
  tensors.at(kUp).values[77] = std::numeric_limits<float>::quiet_NaN();
  test::write_tiny_model(folder.path(), {}, tensors);
  const auto checkpoint = Checkpoint::open(folder.path());
  expect_error(ErrorKind::kNumerics, {kUp, "index 77", "nan"}, [&] { checkpoint->read_f32(kUp); });
  EXPECT_NO_THROW(checkpoint->read_f32("model.layers.0.mlp.up_proj.weight"));
}

class ShardedFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(folder_.path(), {}, test::tiny_tensors(), DType::kF32, 40'000);
  }
  ordered_json index() const {
    std::ifstream file(folder_ / "model.safetensors.index.json");
    return ordered_json::parse(file);
  }
  void write_index(const ordered_json& index) const {
    std::ofstream(folder_ / "model.safetensors.index.json") << index;
  }
  test::TempDir folder_;
};

TEST_F(ShardedFolder, NamesTheShardThatIsMissing) {
  const std::string shard = index()["weight_map"][kUp];
  fs::remove(folder_ / shard);
  expect_error(ErrorKind::kNotFound, {shard, "index"}, [&] { Checkpoint::open(folder_.path()); });
}

TEST_F(ShardedFolder, RefusesATruncatedShard) {
  const std::string shard = index()["weight_map"][kUp];
  fs::resize_file(folder_ / shard, fs::file_size(folder_ / shard) - 1);
  expect_error(ErrorKind::kCorrupt, {shard}, [&] { Checkpoint::open(folder_.path()); });
}

TEST_F(ShardedFolder, RefusesAnIndexThatIsWrong) {
  const ordered_json good = index();
  ordered_json wrong = good;
  wrong["weight_map"]["model.norm.weight"] =
      good["weight_map"][kUp] == good["weight_map"]["model.norm.weight"]
          ? good["weight_map"]["model.embed_tokens.weight"]
          : good["weight_map"][kUp];
  write_index(wrong);
  expect_error(ErrorKind::kCorrupt, {"model.norm.weight", "is not in it"},
               [&] { Checkpoint::open(folder_.path()); });
  for (const char* name :
       {"../model.safetensors", "/etc/passwd", "..", "sub\\model.safetensors", "weights.bin"}) {
    wrong = good;
    wrong["weight_map"][kUp] = name;
    write_index(wrong);
    expect_error(ErrorKind::kCorrupt, {kUp, "beside the index"}, [&] { Checkpoint::open(folder_.path()); });
  }
  write_index({{"weight_map", 3}});
  expect_error(ErrorKind::kCorrupt, {"weight_map"}, [&] { Checkpoint::open(folder_.path()); });
  write_index(good);
  EXPECT_NO_THROW(Checkpoint::open(folder_.path()));
}

TEST(HfCheckpoint, SaysWhatAFolderWithoutSafetensorsHolds) {
  const test::TempDir folder;
  expect_error(ErrorKind::kNotFound, {"config.json"}, [&] { Checkpoint::open(folder.path()); });
  test::write_tiny_model(folder.path());
  fs::remove(folder / "model.safetensors");
  expect_error(ErrorKind::kNotFound, {"no weights"}, [&] { Checkpoint::open(folder.path()); });
  std::ofstream(folder / "pytorch_model.bin") << "x";
  expect_error(ErrorKind::kUnsupported, {"pytorch_model.bin", "pickle", "safetensors"},
               [&] { Checkpoint::open(folder.path()); });
  expect_error(ErrorKind::kUnsupported, {"tokenizer.json", ".gguf"},
               [&] { Checkpoint::open(folder / "tokenizer.json"); });
  expect_error(ErrorKind::kNotFound, {"nowhere"}, [&] { Checkpoint::open(folder / "nowhere"); });
}

TEST(HfCheckpoint, RefusesOtherQuantizationMethodsByName) {
  for (const char* method : {"bitsandbytes", "fp8", "hqq"}) {
    expect_error(ErrorKind::kUnsupported, {"config.json", method}, [&] {
      open_changed([&](TinyModel& m, TinyTensors&) {
        m.changes["quantization_config"] = {{"quant_method", method}, {"bits", 4}};
      });
    });
  }
  EXPECT_NO_THROW(
      open_changed([](TinyModel& m, TinyTensors&) { m.changes["quantization_config"] = nullptr; }));
}

}  // namespace
}  // namespace crumb::formats
