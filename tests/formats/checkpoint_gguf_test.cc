// GGUF files beside the Hugging Face directory of the same model.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "formats/checkpoint.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/tiny_gguf.h"

namespace crumb::formats {
namespace {

using test::expect_error;
using test::TinyModel;
using test::TinyTensors;

void expect_same_config(const model::ModelConfig& found, const model::ModelConfig& expected) {
  EXPECT_EQ(found.family, expected.family);
  EXPECT_EQ(found.hidden_size, expected.hidden_size);
  EXPECT_EQ(found.intermediate_size, expected.intermediate_size);
  EXPECT_EQ(found.num_hidden_layers, expected.num_hidden_layers);
  EXPECT_EQ(found.num_attention_heads, expected.num_attention_heads);
  EXPECT_EQ(found.num_key_value_heads, expected.num_key_value_heads);
  EXPECT_EQ(found.head_dim, expected.head_dim);
  EXPECT_EQ(found.vocab_size, expected.vocab_size);
  EXPECT_EQ(found.max_position_embeddings, expected.max_position_embeddings);
  EXPECT_EQ(found.rms_norm_eps, expected.rms_norm_eps);
  EXPECT_EQ(found.tie_word_embeddings, expected.tie_word_embeddings);
  EXPECT_EQ(found.attention_bias, expected.attention_bias);
  EXPECT_EQ(found.attention_output_bias, expected.attention_output_bias);
  EXPECT_EQ(found.mlp_bias, expected.mlp_bias);
  EXPECT_EQ(found.qk_norm, expected.qk_norm);
  EXPECT_EQ(found.bos_token_id, expected.bos_token_id);
  EXPECT_EQ(found.eos_token_ids, expected.eos_token_ids);
  EXPECT_EQ(model::rope_frequencies(found).inv_freq, model::rope_frequencies(expected).inv_freq);
  EXPECT_EQ(model::rope_frequencies(found).attention_scaling,
            model::rope_frequencies(expected).attention_scaling);
}

std::vector<TinyModel> models() {
  TinyModel llama, biased, qwen2, qwen3;
  biased.qkv_bias = biased.output_bias = biased.mlp_bias = true;
  qwen2.family = "qwen2";
  qwen2.architecture = "Qwen2ForCausalLM";
  qwen2.qkv_bias = qwen2.tied = true;
  qwen3.family = "qwen3";
  qwen3.architecture = "Qwen3ForCausalLM";
  qwen3.qk_norm = true;
  qwen3.head_dim = 32;
  return {llama, biased, qwen2, qwen3};
}

TEST(GgufCheckpoint, EqualsTheDirectoryOfTheSameModelInEveryTensor) {
  for (const TinyModel& m : models()) {
    for (const std::uint32_t type : {test::kGgufF32, test::kGgufF16, test::kGgufBf16}) {
      SCOPED_TRACE(m.family + " type " + std::to_string(type));
      const test::TempDir folder;
      const TinyTensors tensors = test::tiny_tensors(m);
      test::write_tiny_model(folder / "hf", m, tensors);
      test::write_tiny_gguf(folder / "model.gguf", m, tensors, type);
      const auto hf = Checkpoint::open(folder / "hf"), gguf = Checkpoint::open(folder / "model.gguf");
      EXPECT_EQ(gguf->kind(), CheckpointKind::kGguf);
      expect_same_config(gguf->config(), hf->config());
      for (const auto& [name, tensor] : tensors) {
        ASSERT_TRUE(gguf->has(name)) << name;
        EXPECT_EQ(gguf->shape(name), hf->shape(name)) << name;
        EXPECT_EQ(gguf->read_f32(name), hf->read_f32(name)) << name;
      }
      EXPECT_FALSE(gguf->has("model.layers.2.input_layernorm.weight"));
    }
  }
}

// Negative control of the test above: the stored q rows are not the model's.
TEST(GgufCheckpoint, UndoesAPermutationThatChangesTheRows) {
  const TinyTensors tensors = test::tiny_tensors();
  const test::TinyTensor& q = tensors.at("model.layers.0.self_attn.q_proj.weight");
  EXPECT_NE(test::permuted_rows(q, 4), q.values);
}

TEST(GgufCheckpoint, CodesOfGridTypesAreTheFloats) {
  const test::TempDir folder;
  const test::TinyTensors tensors = test::tiny_tensors();
  for (const auto& [type, bits] :
       {std::pair{test::kGgufQ2_0, 2}, {test::kGgufQ4_0, 4}, {test::kGgufQ8_0, 8}}) {
    test::write_tiny_gguf(folder / "m.gguf", {}, tensors, type);
    const auto checkpoint = Checkpoint::open(folder / "m.gguf");
    for (const auto& [name, tensor] : tensors) {
      if (tensor.shape.size() != 2) {
        EXPECT_FALSE(checkpoint->grid_of(name).has_value()) << name;
        continue;
      }
      EXPECT_EQ(checkpoint->grid_of(name), (quant::AffineSpec{bits, 32, quant::Grid::kSignedSym})) << name;
      quant::QuantizedLinear codes = checkpoint->read_codes(name);
      quant::check_quantized_linear(codes, name);
      EXPECT_EQ(quant::dequantize(codes), checkpoint->read_f32(name)) << name;  // -0 equals 0
      // A step of the coarsest grid here is as large as the largest weight.
      codes.codes[5] ^= 1;
      EXPECT_NE(quant::dequantize(codes), checkpoint->read_f32(name)) << name;
    }
  }
  test::write_tiny_gguf(folder / "m.gguf", {}, tensors, test::kGgufF16);
  EXPECT_FALSE(Checkpoint::open(folder / "m.gguf")->grid_of("model.embed_tokens.weight").has_value());
}

TEST(GgufCheckpoint, ReadsLlama3ScalingFromTheDivisorsOfTheFile) {
  TinyModel m;
  m.head_dim = 64;
  m.changes = {{"rope_theta", 500000.0},
               {"rope_scaling",
                {{"rope_type", "llama3"},
                 {"factor", 32.0},
                 {"low_freq_factor", 1.0},
                 {"high_freq_factor", 4.0},
                 {"original_max_position_embeddings", 8192}}}};
  const test::TempDir folder;
  const TinyTensors tensors = test::tiny_tensors(m);
  test::write_tiny_model(folder / "hf", m, tensors);
  const auto hf = Checkpoint::open(folder / "hf");
  std::vector<float> divisors;  // by the formula in its own words, not through rope_frequencies
  for (int i = 0; i < 32; ++i) {
    const double wavelength = 2 * M_PI * std::pow(500000.0, i / 32.0), t = (8192 / wavelength - 1) / 3;
    divisors.push_back(static_cast<float>(wavelength < 2048   ? 1.0
                                          : wavelength > 8192 ? 32.0
                                                              : 1 / ((1 - t) / 32 + t)));
  }
  const auto write = [&](const std::string& name, const std::vector<float>& values) {
    auto metadata = test::tiny_gguf_metadata(m);
    for (auto& [key, value] : metadata) {
      if (key == "llama.rope.freq_base") value = 500000.0;
    }
    auto stored = test::tiny_gguf_tensors(m, tensors);
    stored.push_back({"rope_freqs.weight",
                      {static_cast<std::int64_t>(values.size())},
                      test::kGgufF32,
                      io::convert_from_f32(values, DType::kF32)});
    io::write_gguf(folder / name, metadata, stored);
  };
  write("good.gguf", divisors);
  expect_same_config(Checkpoint::open(folder / "good.gguf")->config(), hf->config());
  divisors[15] *= 1.01f;
  write("other.gguf", divisors);
  expect_error(ErrorKind::kUnsupported, {"other.gguf", "rope_freqs.weight"},
               [&] { Checkpoint::open(folder / "other.gguf"); });
  write("short.gguf", std::vector<float>(16, 1.0f));
  expect_error(ErrorKind::kCorrupt, {"rope_freqs.weight", "[16]", "32"},
               [&] { Checkpoint::open(folder / "short.gguf"); });
}

TEST(GgufCheckpoint, ReadsLinearAndYarnScaling) {
  for (const char* type : {"linear", "yarn"}) {
    TinyModel m;
    m.changes["rope_scaling"] = {
        {"rope_type", type}, {"factor", 2.5}, {"original_max_position_embeddings", 128}};
    const test::TempDir folder;
    const TinyTensors tensors = test::tiny_tensors(m);
    test::write_tiny_model(folder / "hf", m, tensors);
    test::write_tiny_gguf(folder / "m.gguf", m, tensors, test::kGgufF32,
                          {{"llama.rope.scaling.type", std::string(type)},
                           {"llama.rope.scaling.factor", 2.5},
                           {"llama.rope.scaling.original_context_length", std::uint64_t{128}}});
    expect_same_config(Checkpoint::open(folder / "m.gguf")->config(),
                       Checkpoint::open(folder / "hf")->config());
  }
}

TEST(GgufCheckpoint, IsFoundInAFolderThatHoldsOneFile) {
  const test::TempDir folder;
  const TinyTensors tensors = test::tiny_tensors();
  test::write_tiny_gguf(folder / "a.gguf", {}, tensors);
  EXPECT_EQ(Checkpoint::open(folder.path())->kind(), CheckpointKind::kGguf);
  std::ofstream(folder / "config.json") << R"({"model_type": "llama"})";  // such repositories exist
  EXPECT_EQ(Checkpoint::open(folder.path())->kind(), CheckpointKind::kGguf);
  test::write_tiny_gguf(folder / "b.gguf", {}, tensors);
  expect_error(ErrorKind::kInvalidArgument, {"2 GGUF files"}, [&] { Checkpoint::open(folder.path()); });
}

TEST(GgufCheckpoint, StopsGenerationAtTheEndOfATurnToo) {
  const test::TempDir folder;
  test::write_tiny_gguf(folder / "m.gguf", {}, test::tiny_tensors(), test::kGgufF32,
                        {{"tokenizer.ggml.eot_token_id", std::uint64_t{9}}});
  EXPECT_EQ(Checkpoint::open(folder / "m.gguf")->config().eos_token_ids, (std::vector<std::int64_t>{257, 9}));
}

// Each of these, read as a plain llama, would be another model.
TEST(GgufCheckpoint, RefusesVariantsThatItWouldReadWrongly) {
  const auto with = [](const char* key, const io::GgufValue& value) {
    const test::TempDir folder;
    test::write_tiny_gguf(folder / "m.gguf", {}, test::tiny_tensors(), test::kGgufF32, {{key, value}});
    Checkpoint::open(folder / "m.gguf");
  };
  EXPECT_NO_THROW(with("llama.expert_count", std::uint64_t{0}));
  expect_error(ErrorKind::kUnsupported, {"m.gguf", "rope.dimension_count", "8", "16"},
               [&] { with("llama.rope.dimension_count", std::uint64_t{8}); });
  expect_error(ErrorKind::kUnsupported, {"value_length", "8"},
               [&] { with("llama.attention.value_length", std::uint64_t{8}); });
  expect_error(ErrorKind::kUnsupported, {"expert_count", "8"},
               [&] { with("llama.expert_count", std::uint64_t{8}); });
  expect_error(ErrorKind::kUnsupported, {"sliding_window", "64"},
               [&] { with("llama.attention.sliding_window", std::uint64_t{64}); });
  expect_error(ErrorKind::kUnsupported, {"rope.scaling.type", "longrope"},
               [&] { with("llama.rope.scaling.type", std::string("longrope")); });
  expect_error(ErrorKind::kUnsupported, {"scale_linear", "4"}, [&] { with("llama.rope.scale_linear", 4.0); });
  expect_error(ErrorKind::kUnsupported, {"split"}, [&] { with("split.count", std::uint64_t{2}); });
  expect_error(ErrorKind::kUnsupported, {"'gemma2'", "llama"},
               [&] { with("general.architecture", std::string("gemma2")); });
  expect_error(ErrorKind::kCorrupt, {"layer_norm_rms_epsilon", "inf"}, [&] {
    with("llama.attention.layer_norm_rms_epsilon", std::numeric_limits<double>::infinity());
  });
}

TEST(GgufCheckpoint, NamesTensorsThatAreMissingUnknownOrNotFinite) {
  const test::TempDir folder;
  const auto write = [&](const std::string& name, const TinyTensors& tensors) {
    test::write_tiny_gguf(folder / name, {}, tensors);
  };
  TinyTensors tensors = test::tiny_tensors();
  tensors.erase("model.layers.1.mlp.up_proj.weight");
  write("missing.gguf", tensors);
  expect_error(ErrorKind::kNotFound, {"missing.gguf", "model.layers.1.mlp.up_proj.weight"},
               [&] { Checkpoint::open(folder / "missing.gguf"); });

  tensors = test::tiny_tensors();
  tensors["blk.0.attn_sinks.weight"] = {{16}, std::vector<float>(16)};
  write("unknown.gguf", tensors);
  expect_error(ErrorKind::kUnsupported, {"blk.0.attn_sinks.weight", "llama"},
               [&] { Checkpoint::open(folder / "unknown.gguf"); });

  tensors = test::tiny_tensors();
  tensors.at("model.norm.weight").values[5] = std::numeric_limits<float>::infinity();
  write("infinite.gguf", tensors);
  const auto checkpoint = Checkpoint::open(folder / "infinite.gguf");
  expect_error(ErrorKind::kNumerics, {"model.norm.weight", "index 5"},
               [&] { checkpoint->read_f32("model.norm.weight"); });

  tensors = test::tiny_tensors();
  tensors.erase("model.embed_tokens.weight");
  write("headless.gguf", tensors);
  expect_error(ErrorKind::kNotFound, {"token_embd.weight"},
               [&] { Checkpoint::open(folder / "headless.gguf"); });
}

}  // namespace
}  // namespace crumb::formats
