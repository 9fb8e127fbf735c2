#include "nn/torch_language_model.h"

#include <algorithm>

#include "base/error.h"
#include "base/interrupt.h"
#include "nn/matmul.h"

namespace crumb::nn {
namespace {

using at::Tensor;

void check_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size) {
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      fail(ErrorKind::kInvalidArgument, "nn.language_model", "token id ", id,
           ": outside of the model's vocabulary; want 0 … ", vocab_size - 1,
           "; use the tokenizer that belongs to this model");
    }
  }
}

void check_length(std::int64_t tokens, std::int64_t limit) {
  if (tokens > limit) {
    fail(ErrorKind::kInvalidArgument, "nn.language_model", tokens, " tokens: the model's longest context is ",
         limit, "; use a shorter context");
  }
}

class TorchSession final : public model::Session {
 public:
  TorchSession(std::shared_ptr<const CausalLm> lm, std::int64_t batch, std::int64_t capacity)
      : lm_(std::move(lm)),
        batch_(batch),
        capacity_(capacity),
        rope_(make_rope_table(lm_->config, capacity, lm_->device())) {
    const model::ModelConfig& c = lm_->config;
    caches_.resize(lm_->blocks.size());
    for (KvCache& cache : caches_) {
      cache.keys = at::empty({batch, c.num_key_value_heads, capacity, c.head_dim}, lm_->final_norm.options());
      cache.values = at::empty_like(cache.keys);
    }
  }

  std::span<const float> append(std::span<const std::int32_t> tokens, std::int64_t count) override {
    const at::NoGradGuard no_grad;
    check_ids(tokens, lm_->config.vocab_size);
    if (length_ + count > capacity_) {
      fail(ErrorKind::kInvalidArgument, "nn.session", length_ + count, " tokens: the session was opened for ",
           capacity_, "; ask for fewer tokens or open a longer session");
    }
    Tensor x = lm_->embed(ids_tensor(tokens, batch_, count, lm_->device()), length_);
    for (std::size_t i = 0; i < caches_.size(); ++i)
      x = lm_->blocks[i].forward(x, rope_, lm_->compute, &caches_[i]);
    length_ += count;
    const Tensor last = x.narrow(1, count - 1, 1).reshape({batch_, lm_->config.hidden_size});
    logits_ = matmul(lm_->last_norm(last), false, lm_->head.to(at::kFloat), true, lm_->compute.precision)
                  .to(at::kCPU)
                  .contiguous();
    return {logits_.const_data_ptr<float>(), static_cast<std::size_t>(logits_.numel())};
  }
  std::int64_t length() const override { return length_; }

 private:
  std::shared_ptr<const CausalLm> lm_;
  std::int64_t batch_, capacity_, length_ = 0;
  RopeTable rope_;
  std::vector<KvCache> caches_;
  Tensor logits_;
};

class TorchLanguageModel final : public model::LanguageModel {
 public:
  TorchLanguageModel(std::shared_ptr<const CausalLm> lm, std::int64_t chunk)
      : lm_(std::move(lm)), chunk_(chunk) {}

  std::int64_t vocab_size() const override { return lm_->config.vocab_size; }
  std::int64_t max_context() const override { return lm_->config.max_position_embeddings; }

  void forward(std::span<const std::int32_t> tokens, const LogitsSink& sink) override {
    const at::NoGradGuard no_grad;
    const auto length = static_cast<std::int64_t>(tokens.size());
    check_length(length, max_context());
    check_ids(tokens, vocab_size());
    if (!rope_.cos.defined() || rope_.cos.size(0) < length)
      rope_ = make_rope_table(lm_->config, length, lm_->device());
    Tensor x = lm_->embed(ids_tensor(tokens, 1, length, lm_->device()));
    for (const DecoderBlock& block : lm_->blocks) {
      throw_if_interrupted("nn.forward");
      x = block.forward(x, rope_, lm_->compute);
    }
    const Tensor normed = lm_->last_norm(x.view({length, lm_->config.hidden_size}));
    const Tensor head = lm_->head.to(at::kFloat);
    for (std::int64_t begin = 0; begin < length; begin += chunk_) {
      const std::int64_t rows = std::min(chunk_, length - begin);
      const Tensor logits = matmul(normed.narrow(0, begin, rows), false, head, true, lm_->compute.precision)
                                .to(at::kCPU)
                                .contiguous();
      sink(begin, rows, {logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.numel())});
    }
  }

  std::unique_ptr<model::Session> open_session(std::int64_t batch, std::int64_t capacity) override {
    check_length(capacity, max_context());
    return std::make_unique<TorchSession>(lm_, batch, capacity);
  }

 private:
  std::shared_ptr<const CausalLm> lm_;
  std::int64_t chunk_;
  RopeTable rope_;
};

}  // namespace

std::unique_ptr<model::LanguageModel> make_language_model(std::shared_ptr<const CausalLm> lm,
                                                          std::int64_t logits_chunk) {
  return std::make_unique<TorchLanguageModel>(std::move(lm), logits_chunk);
}

}  // namespace crumb::nn
