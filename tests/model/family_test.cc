#include "model/family.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace crumb::model {
namespace {

ModelConfig config_of_shapes() {
  ModelConfig c;
  c.family = "llama";
  c.hidden_size = 96;
  c.intermediate_size = 256;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 6;
  c.num_key_value_heads = 2;
  c.head_dim = 32;  // not hidden / heads
  c.vocab_size = 300;
  return c;
}

std::vector<std::string> names_of(const std::vector<PromisedTensor>& tensors) {
  std::vector<std::string> names;
  for (const PromisedTensor& tensor : tensors) names.push_back(tensor.name);
  return names;
}

TEST(Family, IsFoundByEachOfItsNames) {
  EXPECT_EQ(find_family_by_hf_architecture("Qwen2ForCausalLM"), find_family_by_model_type("qwen2"));
  EXPECT_EQ(find_family_by_gguf("qwen3"), find_family_by_model_type("qwen3"));
  EXPECT_EQ(find_family_by_gguf("llama")->name, "llama") << "GGUF calls Mistral a llama, too";
  EXPECT_EQ(find_family_by_gguf(""), nullptr);
  EXPECT_EQ(find_family_by_model_type("gpt2"), nullptr);
  EXPECT_EQ(known_families(), "llama, mistral, qwen2, qwen3, opt");
}

TEST(Family, OptHasOtherNamesInItsFilesAndNoGate) {
  ModelConfig c = config_of_shapes();
  c.family = "opt";
  c.norm = NormKind::kLayer;
  c.mlp = MlpKind::kRelu;
  c.positions = PositionKind::kLearned;
  c.max_position_embeddings = 50;
  c.num_key_value_heads = c.num_attention_heads;
  c.attention_bias = c.attention_output_bias = c.mlp_bias = true;
  std::vector<std::string> stored;
  for (const auto& tensors : {outer_tensors(c), block_tensors(c, 11)})
    for (const PromisedTensor& tensor : tensors) {
      stored.push_back(stored_name(c, tensor.name));
      EXPECT_EQ(name_from_stored(c, stored.back()), tensor.name);
      EXPECT_EQ(block_of(tensor.name), stored.back().find("layers.11.") != std::string::npos ? 11 : -1);
    }
  const std::string block = "model.decoder.layers.11.";
  EXPECT_EQ(stored, (std::vector<std::string>{"model.decoder.embed_tokens.weight",
                                              "model.decoder.embed_positions.weight",
                                              "model.decoder.final_layer_norm.weight",
                                              "model.decoder.final_layer_norm.bias",
                                              "lm_head.weight",
                                              block + "self_attn_layer_norm.weight",
                                              block + "self_attn_layer_norm.bias",
                                              block + "self_attn.q_proj.weight",
                                              block + "self_attn.q_proj.bias",
                                              block + "self_attn.k_proj.weight",
                                              block + "self_attn.k_proj.bias",
                                              block + "self_attn.v_proj.weight",
                                              block + "self_attn.v_proj.bias",
                                              block + "self_attn.out_proj.weight",
                                              block + "self_attn.out_proj.bias",
                                              block + "final_layer_norm.weight",
                                              block + "final_layer_norm.bias",
                                              block + "fc1.weight",
                                              block + "fc1.bias",
                                              block + "fc2.weight",
                                              block + "fc2.bias"}));
  EXPECT_EQ(outer_tensors(c)[1].shape, (std::vector<std::int64_t>{52, 96}));
  EXPECT_EQ(stored_name(c, "model.layers.0.mlp.up_proj.qweight"), "model.decoder.layers.0.fc1.qweight");
  EXPECT_EQ(stored_name(c, "model.layers.0.mlp.up_proj"), "model.decoder.layers.0.fc1");
  EXPECT_EQ(stored_name(c, kBlocksName), "model.decoder.layers.");
  EXPECT_EQ(name_from_stored(c, "decoder.layers.0.fc2.weight"), "model.layers.0.mlp.down_proj.weight");
  EXPECT_EQ(name_from_stored(c, "model.decoder.layers.00.fc2.weight"), "model.decoder.layers.00.fc2.weight");
  EXPECT_EQ(stored_name(config_of_shapes(), "model.layers.0.mlp.up_proj"), "model.layers.0.mlp.up_proj");
}

TEST(Family, PermutesQueriesAndKeysInGgufForLlamaOnly) {
  EXPECT_TRUE(find_family_by_gguf("llama")->gguf_permutes_qk);
  EXPECT_FALSE(find_family_by_gguf("qwen2")->gguf_permutes_qk);
  EXPECT_FALSE(find_family_by_gguf("qwen3")->gguf_permutes_qk);
}

TEST(Family, GivesLinearsTheirShapesWhenHeadsAreNotHiddenOverHeads) {
  const ModelConfig c = config_of_shapes();
  const auto shape = [&](LinearRole role) {
    return std::pair{linear_shape(c, role).n, linear_shape(c, role).k};
  };
  EXPECT_EQ(shape(LinearRole::kQ), (std::pair<std::int64_t, std::int64_t>{192, 96}));
  EXPECT_EQ(shape(LinearRole::kK), (std::pair<std::int64_t, std::int64_t>{64, 96}));
  EXPECT_EQ(shape(LinearRole::kV), (std::pair<std::int64_t, std::int64_t>{64, 96}));
  EXPECT_EQ(shape(LinearRole::kO), (std::pair<std::int64_t, std::int64_t>{96, 192}));
  EXPECT_EQ(shape(LinearRole::kGate), (std::pair<std::int64_t, std::int64_t>{256, 96}));
  EXPECT_EQ(shape(LinearRole::kUp), (std::pair<std::int64_t, std::int64_t>{256, 96}));
  EXPECT_EQ(shape(LinearRole::kDown), (std::pair<std::int64_t, std::int64_t>{96, 256}));
}

TEST(Family, PromisesTheTensorsOfAPlainBlock) {
  EXPECT_EQ(names_of(block_tensors(config_of_shapes(), 1)),
            (std::vector<std::string>{
                "model.layers.1.input_layernorm.weight", "model.layers.1.self_attn.q_proj.weight",
                "model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.v_proj.weight",
                "model.layers.1.self_attn.o_proj.weight", "model.layers.1.post_attention_layernorm.weight",
                "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight",
                "model.layers.1.mlp.down_proj.weight"}));
}

TEST(Family, PromisesBiasesAndHeadNormsWhereTheConfigurationSaysSo) {
  ModelConfig c = config_of_shapes();
  c.attention_bias = true;
  c.qk_norm = true;
  const std::vector<std::string> names = names_of(block_tensors(c, 0));
  const auto has = [&](const char* name) {
    return std::find(names.begin(), names.end(), std::string("model.layers.0.") + name) != names.end();
  };
  EXPECT_TRUE(has("self_attn.q_proj.bias") && has("self_attn.k_proj.bias") && has("self_attn.v_proj.bias"));
  EXPECT_FALSE(has("self_attn.o_proj.bias") || has("mlp.gate_proj.bias"));
  EXPECT_TRUE(has("self_attn.q_norm.weight") && has("self_attn.k_norm.weight"));
  c.attention_output_bias = c.mlp_bias = true;
  EXPECT_EQ(block_tensors(c, 0).size(), 9u + 7u + 2u);
}

TEST(Family, PromisesAHeadUnlessItIsTied) {
  ModelConfig c = config_of_shapes();
  EXPECT_EQ(names_of(outer_tensors(c)),
            (std::vector<std::string>{"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}));
  c.tie_word_embeddings = true;
  EXPECT_EQ(names_of(outer_tensors(c)),
            (std::vector<std::string>{"model.embed_tokens.weight", "model.norm.weight"}));
}

TEST(Family, TranslatesGgufNamesBothWays) {
  const std::pair<const char*, const char*> pairs[] = {
      {"token_embd.weight", "model.embed_tokens.weight"},
      {"output_norm.weight", "model.norm.weight"},
      {"output.weight", "lm_head.weight"},
      {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
      {"blk.12.ffn_norm.weight", "model.layers.12.post_attention_layernorm.weight"},
      {"blk.3.attn_q.weight", "model.layers.3.self_attn.q_proj.weight"},
      {"blk.3.attn_q.bias", "model.layers.3.self_attn.q_proj.bias"},
      {"blk.3.attn_k.weight", "model.layers.3.self_attn.k_proj.weight"},
      {"blk.3.attn_v.weight", "model.layers.3.self_attn.v_proj.weight"},
      {"blk.3.attn_output.weight", "model.layers.3.self_attn.o_proj.weight"},
      {"blk.3.ffn_gate.weight", "model.layers.3.mlp.gate_proj.weight"},
      {"blk.3.ffn_up.weight", "model.layers.3.mlp.up_proj.weight"},
      {"blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight"},
      {"blk.3.attn_q_norm.weight", "model.layers.3.self_attn.q_norm.weight"},
      {"blk.3.attn_k_norm.weight", "model.layers.3.self_attn.k_norm.weight"}};
  for (const auto& [gguf, hf] : pairs) {
    EXPECT_EQ(hf_name_from_gguf(gguf), hf);
    EXPECT_EQ(gguf_name_from_hf(hf), gguf);
  }
  for (const char* unknown :
       {"blk.3.attn_qkv.weight", "blk.03.attn_q.weight", "blk..attn_q.weight", "blk.x.attn_q.weight",
        "blk.3.attn_norm.bias", "blk.9999999999.attn_q.weight", "rope_freqs.weight", "blk.3.", ""}) {
    EXPECT_EQ(hf_name_from_gguf(unknown), "") << unknown;
  }
}

TEST(Family, TellsTheBlockOfATensor) {
  EXPECT_EQ(block_of("model.layers.3.mlp.up_proj.weight"), 3);
  EXPECT_EQ(block_of("model.layers.123.input_layernorm.weight"), 123);
  EXPECT_EQ(block_of("model.embed_tokens.weight"), -1);
  EXPECT_EQ(block_of("model.layers.x.mlp.up_proj.weight"), -1);
  EXPECT_EQ(block_of(linear_name(7, LinearRole::kDown) + ".weight"), 7);
}

}  // namespace
}  // namespace crumb::model
