// The equivalent transformation against the authors' code: statistics, start, algebra, outputs, gradients.
#include <gtest/gtest.h>

#include "methods/omniquant/let.h"
#include "methods/omniquant_golden.h"
#include "nn/matmul.h"

namespace crumb::methods::omniquant {
namespace {

using at::Tensor;
using model::LinearRole;
using test::tensor;

constexpr double kRounding = 1e-6;  // relative to the largest value of a tensor

// A file of transformation data, the model it belongs to and that model's shape.
struct Oracle {
  io::SafetensorsFile file, model;
  model::ModelConfig config;
  nn::RopeTable rope;
};

// The model whose first window is x_s0, described by a run of the same folder.
std::vector<Oracle> oracles() {
  std::vector<Oracle> all;
  for (const auto& path : test::golden_files("omniquant", "c_")) {
    const io::SafetensorsFile file(path);
    for (const auto& run_path : test::golden_files("omniquant", "d_")) {
      const io::SafetensorsFile run(run_path);
      io::SafetensorsFile model = test::model_of(run);
      if (!at::equal(test::first_stream(model).narrow(0, 0, 1), tensor(file, "x_s0"))) continue;
      const model::ModelConfig config = test::tiny_config(run);
      all.push_back({io::SafetensorsFile(path), std::move(model), config,
                     nn::make_rope_table(config, test::int_setting(run, "context"), at::kCPU)});
      break;
    }
  }
  return all;
}

#define SKIP_WITHOUT_ORACLES(all) \
  if ((all).empty())              \
  GTEST_SKIP() << "golden/omniquant/c_*, d_*, model_*.safetensors are not here (set CRUMB_SHARED)"

void expect_near(const Tensor& ours, const Tensor& golden, double bound, const std::string& what) {
  ASSERT_EQ(ours.sizes(), golden.sizes()) << what;
  EXPECT_LT((ours - golden).abs().max().item<double>(), bound * golden.abs().max().item<double>()) << what;
}

// Sites in the authors' order of application, with the stored random parameters and this q/k key.
LetParameters stored_parameters(const Oracle& o, const std::string& qkt, bool tied) {
  LetParameters parameters;
  for (const Site site : {Site::kAttentionInput, Site::kMlpInput, Site::kValueOutput, Site::kQueryKey}) {
    LetPair pair{transform_site(o.config, site, tied ? Tying::kExact : Tying::kUntied), {}, {}};
    if (site != Site::kQueryKey) {
      const std::string name = cat("let.", test::authors_name(site), "_smooth_");
      pair.scale = tensor(o.file, name + "scale");
      pair.shift = tensor(o.file, name + "shift");
    } else if (qkt.empty()) {
      pair.scale = at::ones({pair.site.factors});
    } else {
      pair.scale = tensor(o.file, qkt);
      if (tied) pair.scale = largest_per_factor(pair.site, pair.scale);
    }
    parameters.push_back(pair);
  }
  truncate_scales(parameters, Mode::kParity);
  return parameters;
}

nn::DecoderBlock block_of(const Oracle& o, std::int64_t i) {
  return test::tiny_block(o.model, o.config, model::block_prefix(i));
}

TEST(OmniQuantLet, StatisticsAndStartEqualTheAuthors) {
  const auto all = oracles();
  SKIP_WITHOUT_ORACLES(all);
  for (const Oracle& o : all) {
    SCOPED_TRACE(o.file.path().filename().string());
    Tensor stream = test::first_stream(o.model);
    int starts = 0;
    for (std::int64_t i = 0; i < o.config.num_hidden_layers; ++i) {
      const nn::DecoderBlock block = block_of(o, i);
      const calib::ActivationStore store = test::store_of(stream);
      const ActivationStatistics one = collect_activation_statistics(block, store, 1, o.rope, {}, at::kCPU),
                                 four = collect_activation_statistics(block, store, 4, o.rope, {}, at::kCPU);
      for (const LinearRole role : {LinearRole::kQ, LinearRole::kO, LinearRole::kUp, LinearRole::kDown}) {
        const std::string name = model::linear_name(i, role);
        for (const ActivationStatistics* statistics : {&one, &four}) {
          expect_near(statistics->of(role).abs_max(), tensor(o.file, "act_scale." + name), 1e-5, name);
          expect_near(statistics->of(role).shift, tensor(o.file, "act_shift." + name), 1e-5, name);
        }
        const Tensor x = [&] {
          const auto in = block.linear_inputs(stream, o.rope, {});
          return role == LinearRole::kQ    ? in.attention_in
                 : role == LinearRole::kO  ? in.o_in
                 : role == LinearRole::kUp ? in.mlp_in
                                           : in.down_in;
        }();
        expect_near(four.of(role).mean_abs, x.abs().mean(0), 1e-5, name);
      }
      for (const io::TensorInfo& info : o.file.tensors()) {
        double alpha = 0;
        int layer = 0, end = 0;
        if (std::sscanf(info.name.c_str(), "init.alpha%lf.b%d.%n", &alpha, &layer, &end) != 2 || end == 0 ||
            layer != i)
          continue;
        LetSettings settings;
        settings.mode = Mode::kParity;
        settings.alpha = alpha;
        for (const LetPair& pair : start_let(block, let_sites(o.config, settings), one, settings)) {
          if (info.name.substr(static_cast<std::size_t>(end)) ==
              test::authors_name(pair.site.site) + "_smooth_scale")
            expect_near(pair.scale, tensor(o.file, info.name), 1e-5, info.name), ++starts;
        }
      }
      stream = test::outputs(block, stream, o.rope, {});
    }
    EXPECT_GT(starts, 0);
  }
}

TEST(OmniQuantLet, TruncatedParametersAndTransformedTensorsEqualTheAuthors) {
  const auto all = oracles();
  SKIP_WITHOUT_ORACLES(all);
  for (const Oracle& o : all) {
    SCOPED_TRACE(o.file.path().filename().string());
    const LetParameters parameters = stored_parameters(o, "let.qkt_untied", false);
    for (const LetPair& pair : parameters) {
      const std::string name = cat("let_after_truncation.", test::authors_name(pair.site.site), "_smooth_");
      EXPECT_TRUE(at::equal(pair.scale, tensor(o.file, name + "scale"))) << name;
      if (pair.shift.defined()) {
        EXPECT_TRUE(at::equal(pair.shift, tensor(o.file, name + "shift"))) << name;
      }
    }
    const nn::DecoderBlock block = block_of(o, 0), smooth = transformed(block, parameters);
    for (const LinearRole role : model::kLinearRoles) {
      const std::string name(model::hf_name(role));
      if (role == LinearRole::kDown) {
        EXPECT_TRUE(at::equal(smooth.linear(role).weight, block.linear(role).weight));
        continue;
      }
      expect_near(smooth.linear(role).weight.slice(0, 1, {}, 4),
                  tensor(o.file, cat("smooth_rows1mod4.", name, ".weight")), kRounding, name);
      expect_near(smooth.linear(role).bias, tensor(o.file, cat("smooth.", name, ".bias")), kRounding, name);
    }
    expect_near(smooth.input_norm, tensor(o.file, "smooth.input_layernorm.weight"), kRounding, "norm");
    expect_near(smooth.input_norm_bias, tensor(o.file, "smooth.input_layernorm.bias"), kRounding, "norm");
    expect_near(smooth.post_attention_norm, tensor(o.file, "smooth.post_attention_layernorm.weight"),
                kRounding, "norm");
    expect_near(smooth.post_attention_norm_bias, tensor(o.file, "smooth.post_attention_layernorm.bias"),
                kRounding, "norm");
  }
}

TEST(OmniQuantLet, OutputsEqualTheAuthorsAlsoWhereTheirsAreNotEquivalent) {
  const auto all = oracles();
  SKIP_WITHOUT_ORACLES(all);
  for (const Oracle& o : all) {
    SCOPED_TRACE(o.file.path().filename().string());
    const at::NoGradGuard no_grad;
    const nn::DecoderBlock block = block_of(o, 0);
    const Tensor x = tensor(o.file, "x_s0"), plain = block.forward(x, o.rope, {});
    const auto run = [&](const std::string& qkt, bool tied) {
      return transformed(block, stored_parameters(o, qkt, tied)).forward(x, o.rope, {});
    };
    const double size = plain.abs().max().item<double>();
    const auto difference = [&](const Tensor& a, const Tensor& b) {
      return (a - b).abs().max().item<double>() / size;
    };
    EXPECT_LT(difference(plain, tensor(o.file, "out.fp")), kRounding);
    // Their own equivalent runs differ from out.fp by 7e-6 of 215.
    EXPECT_LT(difference(run("", true), plain), kRounding);
    EXPECT_LT(difference(run("let.qkt_tied", true), plain), kRounding);
    EXPECT_LT(difference(run("let.qkt_tied", true), tensor(o.file, "out.qkt_tied")), kRounding);
    const Tensor untied = run("let.qkt_untied", false);
    EXPECT_LT(difference(untied, tensor(o.file, "out.qkt_untied")), kRounding);
    EXPECT_GT(difference(untied, plain), 1e-3);  // the untied pair is not equivalent under RoPE
  }
}

TEST(OmniQuantLet, GradientsEqualTheAuthors) {
  const auto all = oracles();
  SKIP_WITHOUT_ORACLES(all);
  for (const Oracle& o : all) {
    SCOPED_TRACE(o.file.path().filename().string());
    LetParameters parameters = stored_parameters(o, "let.qkt_untied", false);
    for (LetPair& pair : parameters) {
      pair.scale.requires_grad_(true);
      if (pair.shift.defined()) pair.shift.requires_grad_(true);
    }
    const nn::DecoderBlock smooth = transformed(block_of(o, 0), parameters);
    Tensor loss = at::zeros({}, at::kDouble);
    const auto add = [&](const Tensor& t) {
      const Tensor i = at::arange(t.numel(), at::kLong);
      const Tensor weights = ((i * 37 + 11).remainder(101) - 50).to(at::kDouble) / 64;
      loss = loss + (t.reshape({-1}).to(at::kDouble) * weights).sum();
    };
    for (const LinearRole role : model::kLinearRoles) {
      if (role == LinearRole::kDown) continue;
      add(smooth.linear(role).weight);
      add(smooth.linear(role).bias);
    }
    for (const Tensor& t : {smooth.input_norm, smooth.input_norm_bias, smooth.post_attention_norm,
                            smooth.post_attention_norm_bias})
      add(t);
    loss.backward();
    const double golden_loss = tensor(o.file, "let_grad.loss").item<double>();
    EXPECT_NEAR(loss.item<double>() / golden_loss, 1, 1e-5);
    for (const LetPair& pair : parameters) {
      const std::string name = cat("let_grad.", test::authors_name(pair.site.site), "_smooth_");
      EXPECT_LT(test::relative_l2(pair.scale.grad(), tensor(o.file, name + "scale")), 1e-5) << name;
      if (pair.shift.defined()) {
        EXPECT_LT(test::relative_l2(pair.shift.grad(), tensor(o.file, name + "shift")), 1e-5) << name;
      }
    }
  }
}

}  // namespace
}  // namespace crumb::methods::omniquant
