// A quantized model written as a directory and opened again.
#include "formats/hf_output.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "formats/gptq.h"
#include "io/json.h"
#include "quant/affine.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/tiny_gguf.h"
#include "support/tiny_model.h"

namespace crumb::formats {
namespace {

using test::expect_error;
using test::TinyModel;
using test::TinyTensors;
namespace fs = std::filesystem;

// Min-max with binary16 scales. Zero points of `signed-sym` are put on its grid.
quant::QuantizedLinear rtn(const std::vector<float>& w, std::int64_t n, std::int64_t k,
                           const quant::AffineSpec& spec) {
  const auto groups = static_cast<std::size_t>(n * spec.groups(k));
  std::vector<float> scales(groups), zeros(groups);
  quant::init_minmax(w, n, k, spec, scales, zeros);
  quant::QuantizedLinear linear{n, k, spec, std::vector<std::uint8_t>(w.size()), {}, {}};
  for (float& s : scales) s = round_to_f16(s);
  for (float& z : zeros) {
    z = quant::effective_zero_point(z, spec);
    if (spec.grid == quant::Grid::kSignedSym) z = static_cast<float>(1 << (spec.bits - 1));
    linear.zero_points.push_back(static_cast<std::uint8_t>(z));
  }
  quant::quantize(w, scales, zeros, n, k, spec, linear.codes);
  linear.scales = std::move(scales);
  return linear;
}

PackedBlock rtn_block(const Checkpoint& source, std::int64_t block, const quant::AffineSpec& spec) {
  PackedBlock packed;
  for (const model::LinearRole role : model::kLinearRoles) {
    const auto [n, k] = model::linear_shape(source.config(), role);
    packed.linears[static_cast<std::size_t>(role)] =
        rtn(source.read_f32(model::linear_name(block, role) + ".weight"), n, k, spec);
  }
  const std::string norm = "input_layernorm.weight";
  packed.floats[norm] = source.read_f32(model::block_prefix(block) + norm);
  for (float& v : packed.floats[norm])
    v *= 1.000001f;  // training moves norms to numbers that F16 cannot hold
  return packed;
}

std::string text_of(const fs::path& path) {
  return io::read_text_file(path);
}

struct Written {
  test::TempDir folder;
  TinyTensors tensors;
  std::unique_ptr<Checkpoint> source;
  HfOutputOptions options;
  HfOutputReport report;
  fs::path out() const { return folder / "out"; }
};

std::unique_ptr<Written> write_model(const TinyModel& model, quant::AffineSpec spec,
                                     std::int64_t shard_bytes = 1'000'000'000, DType dtype = DType::kBF16) {
  auto w = std::make_unique<Written>();
  w->tensors = test::tiny_tensors(model);
  test::write_tiny_model(w->folder / "model", model, w->tensors, dtype);
  w->source = Checkpoint::open(w->folder / "model");
  fs::create_directory(w->out());
  w->options.spec = spec;
  w->options.shard_bytes = shard_bytes;
  w->report = write_hf_gptq(*w->source, w->out(), w->options,
                            [&](std::int64_t block) { return rtn_block(*w->source, block, spec); });
  return w;
}

void expect_round_trip(const Written& w) {
  const auto back = Checkpoint::open(w.out());
  EXPECT_EQ(back->kind(), CheckpointKind::kPacked);
  ASSERT_TRUE(back->packed_spec());
  EXPECT_EQ(back->packed_spec()->bits, w.options.spec.bits);
  EXPECT_EQ(back->packed_spec()->group_size, w.options.spec.group_size);
  EXPECT_EQ(back->packed_spec()->grid, w.options.spec.grid);
  const model::ModelConfig& config = w.source->config();
  for (std::int64_t block = 0; block < config.num_hidden_layers; ++block) {
    const PackedBlock expected = rtn_block(*w.source, block, w.options.spec);
    for (const model::LinearRole role : model::kLinearRoles) {
      const std::string name = model::linear_name(block, role);
      const auto linear = back->read_packed(name);
      ASSERT_TRUE(linear) << name;
      EXPECT_FALSE(back->has(name + ".weight"));
      EXPECT_EQ(linear->codes, expected.linears[static_cast<std::size_t>(role)].codes) << name;
      EXPECT_EQ(linear->scales, expected.linears[static_cast<std::size_t>(role)].scales) << name;
      EXPECT_EQ(linear->zero_points, expected.linears[static_cast<std::size_t>(role)].zero_points) << name;
    }
  }
  for (const auto& [name, tensor] : w.tensors) {
    if (name.find("_proj.weight") != std::string::npos) continue;
    std::vector<float> expected = tensor.values;
    if (name.ends_with("input_layernorm.weight")) {
      for (float& v : expected) v *= 1.000001f;
    }
    EXPECT_EQ(back->read_f32(name), expected) << name;
    EXPECT_EQ(back->float_dtype(name), name.ends_with("norm.weight") ? DType::kF32 : DType::kBF16) << name;
  }
  EXPECT_EQ(back->tensor_bytes(), w.report.tensor_bytes);
  EXPECT_EQ(hf_gptq_tensor_bytes(*w.source, w.options.spec), w.report.tensor_bytes);
}

TEST(HfOutput, OpensAgainWithTheSameCodesAtEveryWidth) {
  for (const quant::AffineSpec spec : {quant::AffineSpec{2, 64, quant::Grid::kAsym},
                                       {2, 32, quant::Grid::kSignedSym},
                                       {3, 32, quant::Grid::kAsym},
                                       {4, -1, quant::Grid::kAsym},
                                       {8, 64, quant::Grid::kAsym}}) {
    SCOPED_TRACE(quant::scheme_name(spec));
    expect_round_trip(*write_model({}, spec));
  }
}

TEST(HfOutput, KeepsBiasesHeadNormsAndTiedHeads) {
  TinyModel qwen2, qwen3, llama;
  qwen2.family = "qwen2";
  qwen2.architecture = "Qwen2ForCausalLM";
  qwen2.qkv_bias = qwen2.tied = true;
  qwen3.family = "qwen3";
  qwen3.architecture = "Qwen3ForCausalLM";
  qwen3.qk_norm = true;
  qwen3.head_dim = 32;
  llama.qkv_bias = llama.output_bias = llama.mlp_bias = true;
  for (const TinyModel& model : {qwen2, qwen3, llama}) {
    SCOPED_TRACE(model.family);
    const auto written = write_model(model, {2, 32, quant::Grid::kAsym});
    expect_round_trip(*written);
    EXPECT_EQ(Checkpoint::open(written->out())->has("lm_head.weight"), !model.tied);
  }
}

TEST(HfOutput, WritesShardsThatHoldTheSameTensors) {
  const auto whole = write_model({}, {2, 64, quant::Grid::kAsym});
  const auto sharded = write_model({}, {2, 64, quant::Grid::kAsym}, 20'000);
  expect_round_trip(*sharded);
  EXPECT_EQ(whole->report.shards, 1);
  EXPECT_GT(sharded->report.shards, 3);
  EXPECT_EQ(whole->report.tensor_bytes, sharded->report.tensor_bytes);
  EXPECT_TRUE(fs::exists(whole->out() / "model.safetensors"));
  EXPECT_FALSE(fs::exists(sharded->out() / "model.safetensors"));
  const auto index = nlohmann::json::parse(text_of(sharded->out() / "model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], sharded->report.tensor_bytes);
  for (const auto& entry : fs::directory_iterator(sharded->out())) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".safetensors")) continue;
    std::int64_t bytes = 0, tensors = 0;
    const io::SafetensorsFile file(entry.path());
    for (const auto& tensor : file.tensors()) {
      bytes += static_cast<std::int64_t>(tensor.size);
      ++tensors;
      EXPECT_EQ(index["weight_map"][tensor.name], name);
    }
    EXPECT_TRUE(bytes <= 20'000 || tensors == 1) << name << " " << bytes;
    EXPECT_EQ(file.metadata().at("format"), "pt");
  }
}

// 2 bits, group 64, K = 64 and N = 64: 2 + (16 + 2) / 64 bits for codes, scales and zero points, 32 / N for
// g_idx.
TEST(HfOutput, ReportsBytesAndBitsAsTheyLieInTheFiles) {
  const auto w = write_model({}, {2, 64, quant::Grid::kAsym});
  std::int64_t bytes = 0, weights = 0, files = 0;
  const io::SafetensorsFile file(w->out() / "model.safetensors");
  for (const auto& tensor : file.tensors()) {
    if (tensor.name.find("_proj.") != std::string::npos) bytes += static_cast<std::int64_t>(tensor.size);
  }
  for (const auto& [name, tensor] : w->tensors) {
    if (name.ends_with("_proj.weight")) weights += static_cast<std::int64_t>(tensor.values.size());
  }
  for (const auto& entry : fs::directory_iterator(w->out()))
    files += static_cast<std::int64_t>(fs::file_size(entry.path()));
  EXPECT_EQ(w->report.packed_linear_bytes, bytes);
  EXPECT_DOUBLE_EQ(w->report.bits_per_linear_weight,
                   8.0 * static_cast<double>(bytes) / static_cast<double>(weights));
  EXPECT_EQ(w->report.file_bytes, files);
  EXPECT_EQ(gptq_bytes(64, 64, w->options.spec) * 8, 64 * 64 * 2 + 64 * (16 + 2) + 64 * 32);
}

TEST(HfOutput, AddsToTheConfigurationAndCopiesCompanions) {
  const auto w = write_model({}, {2, 64, quant::Grid::kAsym});
  const std::string before = text_of(w->folder / "model" / "config.json"),
                    after = text_of(w->out() / "config.json");
  EXPECT_TRUE(after.starts_with(before.substr(0, before.find_last_not_of("}\n ") + 1)))
      << "every byte before the new member is kept";
  const auto config = nlohmann::json::parse(after);
  EXPECT_EQ(config["quantization_config"], nlohmann::json::parse(text_of(w->out() / "quantize_config.json")));
  EXPECT_EQ(config["quantization_config"]["checkpoint_format"], "gptq_v2");
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    EXPECT_EQ(text_of(w->out() / name), text_of(w->folder / "model" / name));
}

TEST(HfOutput, PrefersTextsThatTheCallerGives) {
  auto w = write_model({}, {2, 64, quant::Grid::kAsym});
  fs::create_directory(w->folder / "again");
  w->options.texts = {{"tokenizer.json", "{\"mine\": 1}"}, {"README.md", "card"}};
  write_hf_gptq(*w->source, w->folder / "again", w->options,
                [&](std::int64_t block) { return rtn_block(*w->source, block, w->options.spec); });
  EXPECT_EQ(text_of(w->folder / "again" / "tokenizer.json"), "{\"mine\": 1}");
  EXPECT_EQ(text_of(w->folder / "again" / "README.md"), "card");
}

TEST(HfOutput, WritesAGgufSourceAsADirectory) {
  const test::TempDir folder;
  const TinyModel model;
  const TinyTensors tensors = test::tiny_tensors(model);
  test::write_tiny_gguf(folder / "m.gguf", model, tensors, test::kGgufF16);
  const auto source = Checkpoint::open(folder / "m.gguf");
  fs::create_directory(folder / "out");
  const quant::AffineSpec spec{2, 64, quant::Grid::kAsym};
  write_hf_gptq(*source, folder / "out", {.spec = spec, .floats = {}, .texts = {}},
                [&](std::int64_t block) { return rtn_block(*source, block, spec); });
  const auto back = Checkpoint::open(folder / "out");
  EXPECT_EQ(back->read_packed("model.layers.1.self_attn.k_proj")->codes,
            rtn(tensors.at("model.layers.1.self_attn.k_proj.weight").values, 32, 64, spec).codes);
  EXPECT_EQ(back->read_f32("model.embed_tokens.weight"), tensors.at("model.embed_tokens.weight").values);
}

// One good model and one fault at a time.
class FaultyOutput : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(folder_ / "model");
    source_ = Checkpoint::open(folder_ / "model");
    fs::create_directory(folder_ / "out");
    options_.spec = {2, 64, quant::Grid::kAsym};
  }
  void write(const std::function<void(PackedBlock&)>& change) {
    write_hf_gptq(*source_, folder_ / "out", options_, [&](std::int64_t block) {
      PackedBlock packed = rtn_block(*source_, block, options_.spec);
      if (block == 1) change(packed);
      return packed;
    });
  }
  test::TempDir folder_;
  std::unique_ptr<Checkpoint> source_;
  HfOutputOptions options_;
};
void unchanged(PackedBlock&) {}

TEST_F(FaultyOutput, NamesTheLinearWithAnotherShapeOrScheme) {
  expect_error(ErrorKind::kInvalidArgument, {"model.layers.1.self_attn.q_proj", "[32, 64]", "[64, 64]"},
               [&] { write([](PackedBlock& b) { std::swap(b.linears[0], b.linears[1]); }); });
}
TEST_F(FaultyOutput, NamesTheLinearWithAnotherGroupSize) {
  expect_error(ErrorKind::kInvalidArgument, {"model.layers.1.mlp.down_proj", "w2g32", "w2g64"}, [&] {
    write([&](PackedBlock& b) {
      b.linears[6] =
          rtn(source_->read_f32("model.layers.1.mlp.down_proj.weight"), 64, 128, {2, 32, quant::Grid::kAsym});
    });
  });
}
TEST_F(FaultyOutput, NamesAScaleThatBinary16CannotHold) {
  expect_error(ErrorKind::kInvalidArgument, {"model.layers.1.self_attn.v_proj", "0.1", "binary16"},
               [&] { write([](PackedBlock& b) { b.linears[2].scales[7] = 0.1f; }); });
}
TEST_F(FaultyOutput, NamesAScaleThatIsNotFinite) {
  expect_error(ErrorKind::kCorrupt, {"model.layers.1.self_attn.v_proj", "nan"},
               [&] { write([](PackedBlock& b) { b.linears[2].scales[7] = NAN; }); });
}
TEST_F(FaultyOutput, NamesAZeroPointOffTheGrid) {
  options_.spec.grid = quant::Grid::kSignedSym;
  expect_error(ErrorKind::kInvalidArgument, {"model.layers.1.self_attn.o_proj", "zero point 3", "1 and 2"},
               [&] { write([](PackedBlock& b) { b.linears[3].zero_points[0] = 3; }); });
}
TEST_F(FaultyOutput, NamesAChangedTensorThatTheModelDoesNotHave) {
  expect_error(ErrorKind::kInvalidArgument, {"model.layers.1.self_attn.q_proj.bias"}, [&] {
    write([](PackedBlock& b) { b.floats["self_attn.q_proj.bias"] = std::vector<float>(64); });
  });
}
TEST_F(FaultyOutput, NamesAChangedTensorOfAnotherSize) {
  expect_error(ErrorKind::kInvalidArgument, {"model.layers.1.input_layernorm.weight", "63", "64"},
               [&] { write([](PackedBlock& b) { b.floats["input_layernorm.weight"].pop_back(); }); });
}
TEST_F(FaultyOutput, NamesAChangedOuterTensorThatTheModelDoesNotHave) {
  options_.floats["model.embed_positions.weight"] = {1.0f};
  expect_error(ErrorKind::kInvalidArgument, {"model.embed_positions.weight"}, [&] { write(unchanged); });
}
TEST_F(FaultyOutput, RefusesAFolderThatHoldsAModel) {
  write(unchanged);
  const std::string before = text_of(folder_ / "out" / "model.safetensors");
  expect_error(ErrorKind::kInvalidArgument, {"out", "empty"}, [&] { write(unchanged); });
  EXPECT_EQ(text_of(folder_ / "out" / "model.safetensors"), before);
}
TEST_F(FaultyOutput, AsksBeforeTheFirstBlockWhetherEveryShapeFits) {
  options_.spec.group_size = 48;
  expect_error(ErrorKind::kInvalidArgument, {"model.layers.0.self_attn.q_proj", "48", "64"}, [&] {
    write_hf_gptq(*source_, folder_ / "out", options_,
                  [](std::int64_t) -> PackedBlock { throw std::logic_error("a block was asked for"); });
  });
}

// A packed directory, damaged.
class PackedFolder : public ::testing::Test {
 protected:
  void SetUp() override { written_ = write_model({}, {3, 32, quant::Grid::kAsym}); }
  // Rewrites the weights with `change` applied to each tensor; a tensor whose name comes back empty is left
  // out.
  void change_tensors(const std::function<void(io::TensorToWrite&)>& change) {
    std::vector<io::TensorToWrite> tensors;
    {
      const io::SafetensorsFile file(written_->out() / "model.safetensors");
      for (const io::TensorInfo& info : file.tensors()) {
        const auto bytes = file.bytes(info);
        io::TensorToWrite tensor{
            info.name, info.dtype, info.shape,
            [copy = std::vector<std::byte>(bytes.begin(), bytes.end())] { return copy; }};
        change(tensor);
        if (!tensor.name.empty()) tensors.push_back(std::move(tensor));
      }
    }
    io::write_safetensors_atomically(written_->out() / "model.safetensors", std::move(tensors),
                                     {{"format", "pt"}});
  }
  void change_config(const std::function<void(nlohmann::ordered_json&)>& change) {
    auto config = nlohmann::ordered_json::parse(text_of(written_->out() / "config.json"));
    change(config);
    std::ofstream(written_->out() / "config.json") << config;
  }
  void open() { Checkpoint::open(written_->out()); }
  std::unique_ptr<Written> written_;
};

constexpr const char* kDown = "model.layers.1.mlp.down_proj";

TEST_F(PackedFolder, NamesThePartThatIsMissing) {
  change_tensors([](io::TensorToWrite& t) {
    if (t.name == std::string(kDown) + ".scales") t.name.clear();
  });
  expect_error(ErrorKind::kNotFound, {kDown, ".scales", "[4, 64]"}, [&] { open(); });
}
TEST_F(PackedFolder, NamesThePartWithAnotherShape) {
  change_config([](auto& config) { config["quantization_config"]["group_size"] = 64; });
  expect_error(ErrorKind::kCorrupt, {"model.layers.0.self_attn.q_proj.qzeros", "[2, 6]", "[1, 6]"},
               [&] { open(); });
}
TEST_F(PackedFolder, ReadsWithoutGroupIndex) {
  change_tensors([](io::TensorToWrite& t) {
    if (t.name.ends_with(".g_idx")) t.name.clear();
  });
  EXPECT_EQ(Checkpoint::open(written_->out())->read_packed(kDown)->codes,
            rtn_block(*written_->source, 1, written_->options.spec).linears[6].codes);
}
TEST_F(PackedFolder, RefusesActOrder) {
  change_tensors([](io::TensorToWrite& t) {
    if (t.name != std::string(kDown) + ".g_idx") return;
    auto bytes = t.produce();
    std::swap(bytes[0], bytes[4 * 127]);
    t.produce = [bytes] { return bytes; };
  });
  const auto checkpoint = Checkpoint::open(written_->out());
  expect_error(ErrorKind::kUnsupported, {kDown, "g_idx[0] is 3", "Act-order"},
               [&] { checkpoint->read_packed(kDown); });
}
TEST_F(PackedFolder, TakesTheConfigurationFromQuantizeConfigToo) {
  change_config([](auto& config) { config.erase("quantization_config"); });
  EXPECT_EQ(Checkpoint::open(written_->out())->packed_spec()->bits, 3);
  fs::remove(written_->out() / "quantize_config.json");
  expect_error(ErrorKind::kUnsupported, {"qweight", "quantization_config", "--gptq-zeros v2"},
               [&] { open(); });
}
TEST_F(PackedFolder, RefusesAmbiguousZeros) {
  change_config([](auto& config) {
    config["quantization_config"].erase("checkpoint_format");
    config["quantization_config"].erase("format");
  });
  expect_error(ErrorKind::kCorrupt, {"config.json", "checkpoint_format"}, [&] { open(); });
}
TEST_F(PackedFolder, ReadsEfficientQatsTenCodesAWord) {
  const PackedBlock blocks[] = {rtn_block(*written_->source, 0, written_->options.spec),
                                rtn_block(*written_->source, 1, written_->options.spec)};
  change_tensors([&](io::TensorToWrite& t) {
    if (!t.name.ends_with(".qweight") && !t.name.ends_with(".qzeros")) return;
    const std::int64_t block = model::block_of(t.name);
    for (const model::LinearRole role : model::kLinearRoles) {
      if (t.name.find(model::hf_name(role)) == std::string::npos) continue;
      const GptqTensors padded =
          pack_gptq(blocks[block].linears[static_cast<std::size_t>(role)], quant::WordLayout::kPadded);
      const auto& words = t.name.ends_with(".qweight") ? padded.qweight : padded.qzeros;
      t.shape[t.name.ends_with(".qweight") ? 0 : 1] =
          static_cast<std::int64_t>(words.size()) / t.shape[t.name.ends_with(".qweight") ? 1 : 0];
      t.produce = [words] {
        const auto bytes = std::as_bytes(std::span(words));
        return std::vector<std::byte>(bytes.begin(), bytes.end());
      };
    }
  });
  const auto checkpoint = Checkpoint::open(written_->out());
  EXPECT_EQ(checkpoint->shape(std::string(kDown) + ".qweight"), (std::vector<std::int64_t>{13, 64}));
  EXPECT_EQ(checkpoint->read_packed(kDown)->codes, blocks[1].linears[6].codes);
  EXPECT_EQ(checkpoint->read_packed(kDown)->zero_points, blocks[1].linears[6].zero_points);
}

}  // namespace
}  // namespace crumb::formats
