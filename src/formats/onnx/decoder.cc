#include "formats/onnx/decoder.h"

#include <cmath>
#include <span>

#include "base/str.h"
#include "model/family.h"
#include "model/rope_table.h"

namespace crumb::formats {
namespace {

using model::LinearRole;
constexpr std::string_view kMicrosoft = "com.microsoft";

class DecoderBuilder {
 public:
  DecoderBuilder(OnnxGraph& graph, const model::ModelConfig& config, const DecoderTensors& tensors)
      : graph_(graph), config_(config), tensors_(tensors) {}

  void build(std::int64_t positions) {
    const model::ModelConfig& c = config_;
    graph_.input("input_ids", OnnxType::kI64, {"batch", "new"});
    graph_.input("attention_mask", OnnxType::kI64, {"batch", "all"});
    lengths();
    if (c.positions == model::PositionKind::kRope) rope_tables(positions);
    const std::string embedding(model::kEmbeddingName);
    std::string x = as_f32(
        "hidden", graph_.node("Gather", "embedded", {float_matrix(embedding), "input_ids"}), embedding);
    if (c.positions == model::PositionKind::kLearned) x = add_positions(x);
    for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) x = block(i, x);
    x = norm(std::string(model::kFinalNormName), x);
    head(x);
    graph_.output("logits", OnnxType::kF32, {"batch", "new", c.vocab_size});
    for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
      for (const char* part : {".key", ".value"})
        graph_.output(cat("present.", i, part), OnnxType::kF32,
                      {"batch", c.num_key_value_heads, "all", c.head_dim});
    }
  }

 private:
  // GroupQueryAttention wants, as int32, the index of each sequence's last token and the length of the
  // longest.
  void lengths() {
    const std::string axis = graph_.constant("constants.axis_1", {1});
    const std::string one = graph_.constant("constants.one", {1});
    const std::string sum =
        graph_.node("ReduceSum", "lengths.sum", {"attention_mask", axis}, {{"keepdims", std::int64_t{0}}});
    const std::string last = graph_.node("Sub", "lengths.minus_one", {sum, one});
    cast("lengths.last", last, OnnxType::kI32);
    const std::string shape = graph_.node("Shape", "lengths.shape", {"attention_mask"});
    const std::string index = graph_.constant("constants.index_1", {1}, true);
    const std::string all =
        graph_.node("Gather", "lengths.longest", {shape, index}, {{"axis", std::int64_t{0}}});
    cast("lengths.all", all, OnnxType::kI32);
  }

  // x + the rows of the table for positions all - new … all - 1.
  std::string add_positions(const std::string& x) {
    const std::string name(model::kPositionsName);
    const std::string table =
        float_tensor(name, tensors_.float_type(name),
                     {config_.max_position_embeddings + model::kLearnedPositionOffset, config_.hidden_size});
    const std::string index = graph_.constant("positions.index_1", {1});
    const auto columns = [&](const char* node, const char* of) {
      return graph_.node("Gather", cat("positions.", node),
                         {graph_.node("Shape", cat("positions.", node, ".shape"), {of}), index},
                         {{"axis", std::int64_t{0}}});
    };
    const std::string offset = graph_.constant("positions.offset", {model::kLearnedPositionOffset});
    const std::string end = graph_.node("Add", "positions.end", {columns("all", "attention_mask"), offset});
    const std::string begin = graph_.node("Sub", "positions.begin", {end, columns("new", "input_ids")});
    const std::string rows =
        graph_.node("Slice", "positions.rows", {table, begin, end, graph_.constant("positions.axis_0", {0})});
    return graph_.node("Add", "positioned", {x, as_f32("positions.f32", rows, name)});
  }

  void rope_tables(std::int64_t positions) {
    const std::int64_t half = config_.head_dim / 2;
    const auto table = [&](const char* name, bool cosine) {
      graph_.tensor(name, OnnxType::kF32, {positions, half}, [config = config_, positions, half, cosine] {
        std::vector<float> cos(static_cast<std::size_t>(positions * half)), sin(cos.size());
        model::fill_rope_table(model::rope_frequencies(config), 0, positions, cos.data(), sin.data());
        const auto bytes = std::as_bytes(std::span(cosine ? cos : sin));
        return std::vector<std::byte>(bytes.begin(), bytes.end());
      });
    };
    table("rope.cos", true);
    table("rope.sin", false);
  }

  std::string cast(const std::string& name, const std::string& x, OnnxType type) {
    return graph_.node("Cast", name, {x}, {{"to", static_cast<std::int64_t>(type)}});
  }
  std::string as_f32(const std::string& name, const std::string& x, const std::string& tensor) {
    return tensors_.float_type(tensor) == OnnxType::kF32 ? x : cast(name, x, OnnxType::kF32);
  }

  std::string float_tensor(const std::string& name, OnnxType type, std::vector<std::int64_t> dims) {
    return graph_.tensor(name, type, std::move(dims),
                         [make = tensors_.floats, name, type] { return make(name, type); });
  }
  std::string float_matrix(const std::string& name) {  // embedding and head
    return float_tensor(name, tensors_.float_type(name), {config_.vocab_size, config_.hidden_size});
  }

  std::string norm(const std::string& weight, const std::string& x, std::int64_t width = 0) {
    if (width == 0) width = config_.hidden_size;
    if (config_.norm == model::NormKind::kLayer) {
      const std::string bias = weight.substr(0, weight.rfind('.')) + ".bias";
      return graph_.node(
          "LayerNormalization", node_name(weight),
          {x, float_tensor(weight, OnnxType::kF32, {width}), float_tensor(bias, OnnxType::kF32, {width})},
          {{"axis", std::int64_t{-1}}, {"epsilon", static_cast<float>(config_.rms_norm_eps)}});
    }
    return graph_.node("SimplifiedLayerNormalization", node_name(weight),
                       {x, float_tensor(weight, OnnxType::kF32, {width})},
                       {{"axis", std::int64_t{-1}},
                        {"epsilon", static_cast<float>(config_.rms_norm_eps)},
                        {"stash_type", std::int64_t{1}}});
  }

  static std::string node_name(const std::string& tensor) {
    return tensor.substr(0, tensor.rfind('.')) + ".out";
  }

  std::string linear(std::int64_t block, LinearRole role, const std::string& x) {
    const std::string name = model::linear_name(block, role);
    const auto [n, k] = model::linear_shape(config_, role);
    const MatMulNBits op = tensors_.linear(name, n, k);
    const auto part = [&](const char* suffix, char which, OnnxType type, std::vector<std::int64_t> dims) {
      return graph_.tensor(name + suffix, type, std::move(dims),
                           [make = tensors_.linear_part, name, op, which] { return make(name, op, which); });
    };
    const std::string codes = part(".qweight", 'q', OnnxType::kU8, {op.n, op.blocks, op.block * op.bits / 8});
    const std::string scales = part(".scales", 's', OnnxType::kF32, {op.n, op.blocks});
    const std::string zeros = part(".qzeros", 'z', OnnxType::kU8, {op.n, matmul_nbits_zero_bytes(op)});
    std::string y = graph_.node(
        "MatMulNBits", name + ".out", {x, codes, scales, zeros},
        {{"K", op.k}, {"N", op.n}, {"bits", std::int64_t{op.bits}}, {"block_size", op.block}}, kMicrosoft);
    if (model::has_bias(config_, role)) {
      y = graph_.node("Add", name + ".biased", {y, float_tensor(name + ".bias", OnnxType::kF32, {n})});
    }
    return y;
  }

  // RMSNorm of each head of [batch, new, heads * head_dim].
  std::string head_norm(const std::string& weight, const std::string& x, std::int64_t heads) {
    const std::string split = graph_.constant(weight + ".split", {0, 0, heads, config_.head_dim});
    const std::string joined = graph_.constant(weight + ".joined", {0, 0, heads * config_.head_dim});
    const std::string by_head = graph_.node("Reshape", node_name(weight) + ".by_head", {x, split});
    return graph_.node("Reshape", node_name(weight) + ".rows",
                       {norm(weight, by_head, config_.head_dim), joined});
  }

  std::string attention(std::int64_t i, const std::string& x) {
    const model::ModelConfig& c = config_;
    const std::string prefix = model::block_prefix(i);
    std::string q = linear(i, LinearRole::kQ, x), k = linear(i, LinearRole::kK, x);
    const std::string v = linear(i, LinearRole::kV, x);
    if (c.qk_norm) {
      q = head_norm(prefix + "self_attn.q_norm.weight", q, c.num_attention_heads);
      k = head_norm(prefix + "self_attn.k_norm.weight", k, c.num_key_value_heads);
    }
    const std::string past_key = cat("past_key_values.", i, ".key"),
                      past_value = cat("past_key_values.", i, ".value");
    for (const std::string& past : {past_key, past_value}) {
      graph_.input(past, OnnxType::kF32, {"batch", c.num_key_value_heads, "earlier", c.head_dim});
      graph_.empty_default(past, OnnxType::kF32, {1, c.num_key_value_heads, 0, c.head_dim});
    }
    const bool rotates = c.positions == model::PositionKind::kRope;
    std::vector<std::string> inputs = {q, k, v, past_key, past_value, "lengths.last", "lengths.all"};
    if (rotates) inputs.insert(inputs.end(), {"rope.cos", "rope.sin"});
    const std::string attended =
        graph_.node("GroupQueryAttention", prefix + "self_attn.out", inputs,
                    {{"num_heads", c.num_attention_heads},
                     {"kv_num_heads", c.num_key_value_heads},
                     {"do_rotary", std::int64_t{rotates}},
                     {"scale", static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim)))},
                     {"local_window_size", c.sliding_window > 0 ? c.sliding_window : std::int64_t{-1}}},
                    kMicrosoft, {cat("present.", i, ".key"), cat("present.", i, ".value")});
    return linear(i, LinearRole::kO, attended);
  }

  std::string mlp(std::int64_t i, const std::string& x) {
    const std::string prefix = model::block_prefix(i) + "mlp.";
    if (config_.mlp == model::MlpKind::kRelu)
      return linear(i, LinearRole::kDown,
                    graph_.node("Relu", prefix + "relu", {linear(i, LinearRole::kUp, x)}));
    const std::string gate = linear(i, LinearRole::kGate, x), up = linear(i, LinearRole::kUp, x);
    const std::string sigmoid = graph_.node("Sigmoid", prefix + "sigmoid", {gate});
    const std::string silu = graph_.node("Mul", prefix + "silu", {gate, sigmoid});
    return linear(i, LinearRole::kDown, graph_.node("Mul", prefix + "product", {silu, up}));
  }

  std::string block(std::int64_t i, const std::string& x) {
    const std::string prefix = model::block_prefix(i);
    const std::string attended = attention(i, norm(prefix + "input_layernorm.weight", x));
    const std::string middle = graph_.node("Add", prefix + "middle", {x, attended});
    const std::string fed = mlp(i, norm(prefix + "post_attention_layernorm.weight", middle));
    return graph_.node("Add", prefix + "out", {middle, fed});
  }

  void head(const std::string& x) {
    std::string name(model::kHeadName);
    if (config_.tie_word_embeddings)
      name = model::kEmbeddingName;
    else
      float_matrix(name);
    const std::string turned = graph_.node("Transpose", "head.transposed", {as_f32("head.f32", name, name)},
                                           {{"perm", std::vector<std::int64_t>{1, 0}}});
    graph_.node("MatMul", "logits", {x, turned});
  }

  OnnxGraph& graph_;
  const model::ModelConfig& config_;
  const DecoderTensors& tensors_;
};

}  // namespace

void add_decoder(OnnxGraph& graph, const model::ModelConfig& config, std::int64_t positions,
                 const DecoderTensors& tensors) {
  DecoderBuilder(graph, config, tensors).build(positions);
}

}  // namespace crumb::formats
