#include "methods/transform_sites.h"

#include "base/check.h"
#include "base/error.h"

namespace crumb::methods {

using at::Tensor;
using model::LinearRole;

namespace {

// The table. `representative`: whose statistics OmniQuant's code starts from.
struct Row {
  Site site;
  std::string_view name;
  std::vector<LinearRole> consumers;
  LinearRole representative;
  std::size_t input;
  bool admits_shift;
};
const std::vector<Row>& table() {
  static const std::vector<Row> rows = {
      {Site::kAttentionInput,
       "input_layernorm -> q, k, v",
       {LinearRole::kQ, LinearRole::kK, LinearRole::kV},
       LinearRole::kQ,
       0,
       true},
      {Site::kMlpInput,
       "post_attention_layernorm -> gate, up",
       {LinearRole::kGate, LinearRole::kUp},
       LinearRole::kUp,
       2,
       true},
      {Site::kValueOutput, "v -> o", {LinearRole::kO}, LinearRole::kO, 1, true},
      {Site::kQueryKey, "q, k", {LinearRole::kK}, LinearRole::kQ, 0, false},
      {Site::kUpDown, "up -> down", {LinearRole::kDown}, LinearRole::kDown, 3, false},
  };
  return rows;
}
const Row& row_of(Site site) {
  return table().at(static_cast<std::size_t>(site));
}

// [heads * D] factor of each query channel where a factor belongs to a key/value channel; `of_channel`
// [kv_heads * D].
Tensor of_query_heads(const model::ModelConfig& c, const Tensor& of_channel) {
  return of_channel.view({c.num_key_value_heads, 1, c.head_dim})
      .expand({c.num_key_value_heads, c.num_attention_heads / c.num_key_value_heads, c.head_dim})
      .reshape({-1});
}
// [heads * D]: channels i and i + D/2 of a head, which RoPE rotates into each other, share a factor.
Tensor rope_pairs(std::int64_t heads, std::int64_t head_dim) {
  const Tensor pair = at::arange(head_dim / 2, at::kLong).repeat({2});
  return (at::arange(heads, at::kLong).unsqueeze(1) * (head_dim / 2) + pair).reshape({-1});
}

[[noreturn]] void refuse(Site site, const model::ModelConfig& config, const std::string& reason) {
  fail(ErrorKind::kUnsupported, "methods.transform_site", "'", to_string(site), "' in ", config.family,
       " blocks: ", reason);
}

}  // namespace

std::string_view to_string(Site site) noexcept {
  return row_of(site).name;
}

TransformSite transform_site(const model::ModelConfig& c, Site site, Tying tying) {
  const Row& row = row_of(site);
  TransformSite out;
  out.site = site;
  for (const LinearRole role : row.consumers) {
    if (role != LinearRole::kGate || c.mlp == model::MlpKind::kSwiglu) out.consumers.push_back(role);
  }
  out.representative = row.representative;
  out.input = row.input;
  out.admits_shift = row.admits_shift;
  const std::int64_t q_width = c.num_attention_heads * c.head_dim,
                     kv_width = c.num_key_value_heads * c.head_dim;
  const bool grouped = q_width != kv_width;
  if (tying == Tying::kUntied && grouped && (site == Site::kValueOutput || site == Site::kQueryKey)) {
    refuse(site, c,
           cat("untied factors are one for each of ", q_width, " query channels, but ", c.num_key_value_heads,
               " key/value heads have ", kv_width,
               " channels; factors must be shared by the query heads of a key/value head (default mode)"));
  }
  switch (site) {
    case Site::kAttentionInput:
    case Site::kMlpInput:
      out.factors = c.hidden_size;
      break;
    case Site::kUpDown:
      out.factors = c.intermediate_size;
      break;
    case Site::kValueOutput:
      out.factors = kv_width;
      if (grouped) out.consumer_index = of_query_heads(c, at::arange(kv_width, at::kLong));
      break;
    case Site::kQueryKey:
      if (tying == Tying::kUntied) {
        if (c.qk_norm) {
          refuse(
              site, c,
              "a norm over each head stands between the projections and their product, and undoes what rows "
              "of q and k are divided by; factors must go through the weights of q_norm and k_norm (default "
              "mode)");
        }
        out.factors = q_width;
        break;
      }
      if (c.positions != model::PositionKind::kRope) {  // no pairs
        out.factors = kv_width;
        if (grouped) out.producer_index = of_query_heads(c, at::arange(kv_width, at::kLong));
        break;
      }
      CRUMB_CHECK(c.head_dim % 2 == 0);
      if (c.qk_norm) {  // the norms' weights are shared by all heads, so the factors are
        out.factors = c.head_dim / 2;
        out.producer_index = out.consumer_index = rope_pairs(1, c.head_dim);
      } else {
        out.factors = kv_width / 2;
        out.consumer_index = rope_pairs(c.num_key_value_heads, c.head_dim);
        out.producer_index = of_query_heads(c, out.consumer_index);
      }
      break;
  }
  return out;
}

Tensor per_channel(const Tensor& factors, const Tensor& index) {
  return index.defined() && factors.defined() ? factors.index_select(0, index.to(factors.device())) : factors;
}

Tensor largest_per_factor(const TransformSite& site, const Tensor& channels) {
  if (!site.consumer_index.defined()) return channels;
  // As many channels for each factor: sorted by factor they are the rows of a matrix.
  const Tensor order = site.consumer_index.argsort(/*stable=*/true, 0, /*descending=*/false);
  return channels.index_select(0, order.to(channels.device())).view({site.factors, -1}).amax({1});
}

Tensor column_abs_max(const nn::DecoderBlock& block, const std::vector<LinearRole>& linears) {
  Tensor largest;
  for (const LinearRole role : linears) {
    const Tensor own = block.linear(role).weight.detach().abs().amax({0});
    largest = largest.defined() ? at::maximum(largest, own) : own;
  }
  return largest;
}

void fold_into_input(nn::QuantLinear& linear, const Tensor& scale, const Tensor& shift) {
  CRUMB_CHECK(linear.state == nn::QuantLinear::State::kFloat);
  if (shift.defined()) {
    const Tensor moved = linear.weight.mv(shift);  // of the unscaled weight
    linear.bias = linear.bias.defined() ? linear.bias + moved : moved;
  }
  linear.weight = linear.weight * scale;
}

void fold_into_output(nn::QuantLinear& linear, const Tensor& scale, const Tensor& shift) {
  CRUMB_CHECK(linear.state == nn::QuantLinear::State::kFloat);
  linear.weight = linear.weight / scale.unsqueeze(1);
  if (shift.defined()) {
    linear.bias = (linear.bias.defined() ? linear.bias - shift : -shift) / scale;
  } else if (linear.bias.defined()) {
    linear.bias = linear.bias / scale;
  }
}

void apply_transform(nn::DecoderBlock& block, const TransformSite& site, const Tensor& scale,
                     const Tensor& shift) {
  CRUMB_CHECK(scale.dim() == 1 && scale.size(0) == site.factors);
  CRUMB_CHECK(!shift.defined() || (site.admits_shift && shift.sizes() == scale.sizes()));
  const Tensor s_out = per_channel(scale, site.producer_index),
               d_out = per_channel(shift, site.producer_index),
               s_in = per_channel(scale, site.consumer_index), d_in = per_channel(shift, site.consumer_index);
  const auto fold_norm = [&](Tensor& weight, Tensor& bias) {
    weight = weight / s_out;
    if (shift.defined()) {
      bias = (bias.defined() ? bias - d_out : -d_out) / s_out;
    } else if (bias.defined()) {
      bias = bias / s_out;
    }
  };
  switch (site.site) {
    case Site::kAttentionInput:
      fold_norm(block.input_norm, block.input_norm_bias);
      break;
    case Site::kMlpInput:
      fold_norm(block.post_attention_norm, block.post_attention_norm_bias);
      break;
    case Site::kValueOutput:
      fold_into_output(block.linear(LinearRole::kV), s_out, d_out);
      break;
    case Site::kUpDown:
      fold_into_output(block.linear(LinearRole::kUp), s_out, d_out);
      break;
    case Site::kQueryKey:
      if (block.config().qk_norm) {
        block.q_norm = block.q_norm / s_out;
        block.k_norm = block.k_norm * s_in;
      } else {
        fold_into_output(block.linear(LinearRole::kQ), s_out, {});
        nn::QuantLinear& k = block.linear(LinearRole::kK);
        k.weight = k.weight * s_in.unsqueeze(1);
        if (k.bias.defined()) k.bias = k.bias * s_in;
      }
      return;
  }
  for (const LinearRole role : site.consumers) fold_into_input(block.linear(role), s_in, d_in);
}

}  // namespace crumb::methods
