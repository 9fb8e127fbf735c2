#include "model/config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/expect_error.h"

namespace crumb::model {
namespace {

using nlohmann::json;
using test::expect_error;

json config_of(const char* family, const char* architecture) {
  return {{"architectures", {architecture}}, {"model_type", family},   {"hidden_size", 96},
          {"intermediate_size", 256},        {"num_hidden_layers", 4}, {"num_attention_heads", 6},
          {"num_key_value_heads", 2},        {"vocab_size", 300},      {"max_position_embeddings", 8192}};
}
json llama() {
  return config_of("llama", "LlamaForCausalLM");
}

ModelConfig parse(const json& config) {
  return parse_hf_config(config, "config.json");
}
ModelConfig parse_with(json config, const char* key, const json& value) {
  config[key] = value;
  return parse(config);
}

TEST(ModelConfig, ReadsALlamaWithItsDefaults) {
  const ModelConfig c = parse(llama());
  EXPECT_EQ(c.family, "llama");
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.num_key_value_heads, 2);
  EXPECT_EQ(c.rms_norm_eps, 1e-6);
  EXPECT_EQ(c.rope.theta, 10000.0);
  EXPECT_FALSE(c.tie_word_embeddings || c.attention_bias || c.attention_output_bias || c.mlp_bias ||
               c.qk_norm);
  EXPECT_EQ(c.sliding_window, 0);
  EXPECT_EQ(c.bos_token_id, -1);
  EXPECT_TRUE(c.eos_token_ids.empty());
}

TEST(ModelConfig, TakesHeadSizeAndKeyValueHeadsFromTheFileWhenTheyAreThere) {
  EXPECT_EQ(parse_with(llama(), "head_dim", 32).head_dim, 32);
  json config = llama();
  config.erase("num_key_value_heads");
  EXPECT_EQ(parse(config).num_key_value_heads, 6);
  config["num_key_value_heads"] = nullptr;
  EXPECT_EQ(parse(config).num_key_value_heads, 6);
}

TEST(ModelConfig, KnowsWhichBiasesAFamilyHas) {
  const ModelConfig llama_biased = parse_with(llama(), "attention_bias", true);
  EXPECT_TRUE(llama_biased.attention_bias && llama_biased.attention_output_bias);
  EXPECT_TRUE(parse_with(llama(), "mlp_bias", true).mlp_bias);
  const ModelConfig qwen2 = parse(config_of("qwen2", "Qwen2ForCausalLM"));
  EXPECT_TRUE(qwen2.attention_bias);
  EXPECT_FALSE(qwen2.attention_output_bias);
  EXPECT_FALSE(parse_with(config_of("mistral", "MistralForCausalLM"), "attention_bias", true).attention_bias);
}

TEST(ModelConfig, ReadsQwen3WithNormsOnQueriesAndKeysAndItsOwnHeadSize) {
  const ModelConfig c = parse(config_of("qwen3", "Qwen3ForCausalLM"));
  EXPECT_TRUE(c.qk_norm);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_FALSE(c.attention_bias);
}

TEST(ModelConfig, ReadsOptAndRefusesItsOtherForms) {
  const json opt = {{"architectures", {"OPTForCausalLM"}},
                    {"model_type", "opt"},
                    {"hidden_size", 96},
                    {"ffn_dim", 384},
                    {"num_hidden_layers", 4},
                    {"num_attention_heads", 6},
                    {"vocab_size", 300},
                    {"max_position_embeddings", 128},
                    {"activation_function", "relu"},
                    {"do_layer_norm_before", true}};
  const ModelConfig c = parse(opt);
  EXPECT_EQ(c.norm, NormKind::kLayer);
  EXPECT_EQ(c.mlp, MlpKind::kRelu);
  EXPECT_EQ(c.positions, PositionKind::kLearned);
  EXPECT_EQ(c.intermediate_size, 384);
  EXPECT_EQ(c.num_key_value_heads, 6);
  EXPECT_TRUE(c.tie_word_embeddings && c.attention_bias && c.attention_output_bias && c.mlp_bias);
  EXPECT_FALSE(parse_with(opt, "enable_bias", false).mlp_bias);
  const auto refused = [&](const char* key, const json& value,
                           std::initializer_list<std::string_view> parts) {
    expect_error(ErrorKind::kUnsupported, parts, [&] { parse_with(opt, key, value); });
  };
  refused("do_layer_norm_before", false, {"do_layer_norm_before", "350m"});
  refused("word_embed_proj_dim", 48, {"word_embed_proj_dim is 48", "hidden_size 96"});
  refused("_remove_final_layer_norm", true, {"_remove_final_layer_norm", "last norm"});
  refused("layer_norm_elementwise_affine", false, {"norms without weights"});
  refused("activation_function", "gelu", {"'gelu'", "relu only in opt"});
}

TEST(ModelConfig, ReadsTheWindowWhereTheFamilyHasOne) {
  const json mistral = config_of("mistral", "MistralForCausalLM");
  EXPECT_EQ(parse(mistral).sliding_window, 4096);
  EXPECT_EQ(parse_with(mistral, "sliding_window", nullptr).sliding_window, 0);
  EXPECT_EQ(parse_with(mistral, "sliding_window", 1024).sliding_window, 1024);
  EXPECT_EQ(parse_with(llama(), "sliding_window", 1024).sliding_window, 0) << "Llama's class has no window";
}

TEST(ModelConfig, ReadsQwensWindowOnlyWhenItIsUsedByAllBlocks) {
  json qwen = config_of("qwen2", "Qwen2ForCausalLM");
  qwen["sliding_window"] = 512;
  EXPECT_EQ(parse(qwen).sliding_window, 0);
  qwen["use_sliding_window"] = true;
  EXPECT_EQ(parse(qwen).sliding_window, 0) << "the default max_window_layers, 28, exempts all four blocks";
  EXPECT_EQ(parse_with(qwen, "max_window_layers", 0).sliding_window, 512);
  expect_error(ErrorKind::kUnsupported, {"3 of 4", "512"}, [&] { parse_with(qwen, "max_window_layers", 3); });
  const json all_sliding = {"sliding_attention", "sliding_attention", "sliding_attention",
                            "sliding_attention"};
  EXPECT_EQ(parse_with(qwen, "layer_types", all_sliding).sliding_window, 512);
  expect_error(ErrorKind::kUnsupported, {"chunked"}, [&] {
    parse_with(qwen, "layer_types", {"chunked", "chunked", "chunked", "chunked"});
  });
  expect_error(ErrorKind::kCorrupt, {"layer_types", "4"},
               [&] { parse_with(qwen, "layer_types", {"full_attention"}); });
}

TEST(ModelConfig, ReadsOneEndTokenOrSeveral) {
  json config = llama();
  config["bos_token_id"] = 1;
  config["eos_token_id"] = {2, 299};
  EXPECT_EQ(parse(config).bos_token_id, 1);
  EXPECT_EQ(parse(config).eos_token_ids, (std::vector<std::int64_t>{2, 299}));
  EXPECT_EQ(parse_with(config, "eos_token_id", 7).eos_token_ids, (std::vector<std::int64_t>{7}));
  expect_error(ErrorKind::kCorrupt, {"eos_token_id", "300"},
               [&] { parse_with(config, "eos_token_id", 300); });
}

TEST(ModelConfig, NamesTheKeyThatIsMissingAndTheOneThatIsNear) {
  json config = llama();
  config.erase("hidden_size");
  config["hiden_size"] = 96;
  expect_error(ErrorKind::kCorrupt, {"config.json", "'hidden_size'", "'hiden_size'"}, [&] { parse(config); });
}

TEST(ModelConfig, RefusesUnknownArchitecturesWithTheFamiliesItKnows) {
  expect_error(ErrorKind::kUnsupported, {"GemmaForCausalLM", "llama, mistral, qwen2, qwen3"},
               [] { parse(config_of("gemma", "GemmaForCausalLM")); });
  expect_error(ErrorKind::kCorrupt, {"LlamaForCausalLM", "qwen2"},
               [] { parse(config_of("qwen2", "LlamaForCausalLM")); });
  json nameless = llama();
  nameless.erase("architectures");
  EXPECT_EQ(parse(nameless).family, "llama");
  nameless.erase("model_type");
  expect_error(ErrorKind::kCorrupt, {"model_type", "llama"}, [&] { parse(nameless); });
}

TEST(ModelConfig, RefusesNumbersThatNoModelHas) {
  expect_error(ErrorKind::kCorrupt, {"hidden_size", "0"}, [] { parse_with(llama(), "hidden_size", 0); });
  expect_error(ErrorKind::kCorrupt, {"hidden_size", "-64"}, [] { parse_with(llama(), "hidden_size", -64); });
  expect_error(ErrorKind::kCorrupt, {"hidden_size", "96.5"},
               [] { parse_with(llama(), "hidden_size", 96.5); });
  expect_error(ErrorKind::kCorrupt, {"vocab_size"}, [] { parse_with(llama(), "vocab_size", 1e300); });
  expect_error(ErrorKind::kCorrupt, {"vocab_size"},
               [] { parse_with(llama(), "vocab_size", std::uint64_t{1} << 63); });
  expect_error(ErrorKind::kCorrupt, {"rms_norm_eps"}, [] { parse_with(llama(), "rms_norm_eps", 0.0); });
  expect_error(ErrorKind::kCorrupt, {"tie_word_embeddings"},
               [] { parse_with(llama(), "tie_word_embeddings", "yes"); });
  expect_error(ErrorKind::kCorrupt, {"num_attention_heads 6", "4"},
               [] { parse_with(llama(), "num_key_value_heads", 4); });
  expect_error(ErrorKind::kCorrupt, {"head_dim 15"}, [] { parse_with(llama(), "head_dim", 15); });
  expect_error(ErrorKind::kCorrupt, {"hidden_size 100", "head_dim"},
               [] { parse_with(llama(), "hidden_size", 100); });
  expect_error(ErrorKind::kUnsupported, {"hidden_act", "gelu"},
               [] { parse_with(llama(), "hidden_act", "gelu"); });
  expect_error(ErrorKind::kCorrupt, {"config.json"}, [] { parse(json::array()); });
}

// SmolLM2-135M, counted by hand: 30 blocks of 576x576 x2, 192x576 x2, 1536x576 x3; 49152 x 576 tied; norms 2
// per block and one.
TEST(ModelConfig, CountsTheParametersOfSmolLm2) {
  json config = llama();
  config.update({{"hidden_size", 576},
                 {"intermediate_size", 1536},
                 {"num_hidden_layers", 30},
                 {"num_attention_heads", 9},
                 {"num_key_value_heads", 3},
                 {"vocab_size", 49152},
                 {"tie_word_embeddings", true}});
  const ParameterCount count = count_parameters(parse(config));
  EXPECT_EQ(count.block_linears, 106168320);
  EXPECT_EQ(count.embeddings, 28311552);
  EXPECT_EQ(count.other, 61 * 576);
  EXPECT_EQ(count.total(), 134515008);
}

}  // namespace
}  // namespace crumb::model
