// Block training against the authors' recorded runs: every file d_*.safetensors with the settings in its
// metadata.
//
// A weight-only run is smooth and is compared at every step. A run with quantized activations is chaotic, in
// the authors' code with itself as well (one flipped code becomes 1-10 % of the loss within ten steps): what
// is compared there is the start, the first update, the stored check points with the parameters given, the
// steps before the authors' own repetitions depart from each other, and then the means of epochs.
#include <gtest/gtest.h>

#include <cmath>

#include "base/str.h"
#include "methods/omniquant_golden.h"
#include "nn/functional.h"

namespace crumb::methods::omniquant {
namespace {

using at::Tensor;
using model::LinearRole;
using test::tensor;

constexpr double kLossBound = 1e-5;       // relative
constexpr double kGradientBound = 1e-4;   // relative L2 of a tensor
constexpr double kParameterBound = 1e-3;  // absolute, after a whole smooth run
constexpr double kFirstUpdateBound =
    1e-6;                             // of a scale, or of 1 below 1; an update moves by the learning rate
constexpr double kEpochBound = 0.06;  // of an epoch's mean loss beyond the authors' own repetitions
constexpr double kFlippedLoss = 0.1, kFlippedGradient = 1;  // what flipped activation codes may do
// Two orders of the same sums. The second is the authors'; streams are made with it, so that activations
// stand on the same side of their rounding boundaries as often as can be.
const nn::Compute kFused, kEager{nn::Precision::kF32, /*fused=*/false, /*eager_attention=*/true};

struct GoldenRun {
  io::SafetensorsFile file, model;
  model::ModelConfig config;
  Settings settings;
  nn::RopeTable rope;
};

GoldenRun open(const std::filesystem::path& path) {
  io::SafetensorsFile file(path), model = test::model_of(file);
  const model::ModelConfig config = test::tiny_config(file);
  const Settings settings = test::omniquant_settings(file);
  nn::RopeTable rope = nn::make_rope_table(config, test::int_setting(file, "context"), at::kCPU);
  return {std::move(file), std::move(model), config, settings, rope};
}

bool smooth(const GoldenRun& run) {
  return run.settings.activation_bits >= 16;
}

// Parameters stored under `prefix`, in the structure of `like`. Shifts are stored as zeros and never trained.
BlockParameters stored(const GoldenRun& run, const std::string& prefix, const BlockParameters& like) {
  BlockParameters parameters = like;
  test::for_each_parameter(
      parameters, [&](const std::string& name, Tensor& value) { value = tensor(run.file, prefix + name); });
  return parameters;
}

// Codes of a linear, [N, K] u8: two in a byte up to 4 bits, even column low.
Tensor stored_codes(const GoldenRun& run, const std::string& name, std::int64_t n, std::int64_t k) {
  const auto bytes = run.file.read_u8(name);
  Tensor codes = at::empty({n, k}, at::kByte);
  auto* out = codes.mutable_data_ptr<std::uint8_t>();
  const bool packed = static_cast<std::int64_t>(bytes.size()) * 2 == n * k;
  for (std::int64_t i = 0; i < n * k; ++i) {
    const std::uint8_t byte = bytes.at(static_cast<std::size_t>(packed ? i / 2 : i));
    out[i] = packed ? (i % 2 == 0 ? byte & 15 : byte >> 4) : byte;
  }
  return codes;
}

// A block as it leaves quantization: transformed, weights on their grid, activation quantizers on.
nn::DecoderBlock finished(const nn::DecoderBlock& block, const BlockParameters& parameters,
                          const Settings& settings) {
  nn::DecoderBlock out = block;
  fuse_transformation(out, parameters, settings);
  for (const LinearRole role : model::kLinearRoles) {
    nn::QuantLinear& linear = out.linear(role);
    const LwcCodes codes =
        lwc_codes(linear.weight, parameters.lwc[static_cast<std::size_t>(role)], settings.weights());
    const Tensor groups = codes.codes.view({codes.scale.numel(), -1}).to(at::kFloat);
    linear.weight = ((groups - codes.zero_point) * codes.scale).view({linear.n, linear.k});
  }
  return out;
}

// What block i sees and aims at.
struct BlockData {
  nn::DecoderBlock block;
  Tensor full, quantized;        // streams entering it
  Tensor target, second_target;  // float block of either
  BlockParameters start;
};

// Blocks 0 … i - 1 are those of the stored final parameters.
BlockData data_of(const GoldenRun& run, std::int64_t i, const nn::Compute& compute) {
  const auto block_at = [&](std::int64_t b) {
    return test::tiny_block(run.model, run.config, model::block_prefix(b));
  };
  BlockData data{block_at(i), test::first_stream(run.model), {}, {}, {}, {}};
  data.quantized = data.full;
  for (std::int64_t b = 0; b <= i; ++b) {
    const nn::DecoderBlock block = block_at(b);
    const ActivationStatistics statistics =
        collect_activation_statistics(block, test::store_of(data.full), 1, run.rope, compute, at::kCPU);
    data.start = start_parameters(block, &statistics, run.settings);
    if (b == i) break;
    data.full = test::outputs(block, data.full, run.rope, compute);
    data.quantized = test::outputs(finished(block, stored(run, cat("b", b, ".p."), data.start), run.settings),
                                   data.quantized, run.rope, compute);
  }
  data.target = test::outputs(data.block, data.full, run.rope, compute);
  data.second_target = test::outputs(data.block, data.quantized, run.rope, compute);
  return data;
}

struct Trained {
  BlockResult result;
  BlockParameters parameters;
  LetParameters after_first_step;
};

Trained train(const GoldenRun& run, const BlockData& data, double lr_factor, std::int64_t epochs,
              const nn::Compute& compute = kFused, double noise = 0) {
  Settings settings = run.settings;
  settings.epochs = epochs;
  const calib::ActivationStore inputs = test::store_of(data.quantized * (1 + noise)),
                               targets = test::store_of(data.target),
                               second = test::store_of(data.second_target);
  Trained trained{{}, data.start, {}};
  trained.result =
      train_block(data.block, trained.parameters, {inputs, targets, &second}, nullptr, run.rope, settings,
                  lr_factor, compute, at::kCPU, [&](std::int64_t k, const Step&) {
                    if (k != 0) return;
                    for (const LetPair& pair : trained.parameters.let)
                      trained.after_first_step.push_back({pair.site, pair.scale.detach().clone(), {}});
                  });
  return trained;
}

// Loss and gradients of one step with parameters given.
double teacher_force(const GoldenRun& run, const BlockData& data, BlockParameters& parameters,
                     std::int64_t step, const nn::Compute& compute) {
  test::for_each_parameter(parameters, [](const std::string&, Tensor& value) { value.requires_grad_(true); });
  const std::int64_t windows = data.quantized.size(0), first = step * run.settings.batch % windows;
  const auto part = [&](const Tensor& t) { return t.narrow(0, first, run.settings.batch); };
  const Tensor y =
      quantized_block(data.block, parameters, run.settings).forward(part(data.quantized), run.rope, compute);
  Tensor loss = nn::mse_loss(y, part(data.target), compute);
  if (run.settings.aug_loss) loss = loss + nn::mse_loss(y, part(data.second_target), compute);
  loss.backward();
  return loss.item<double>();
}

std::set<std::int64_t> check_points(const io::SafetensorsFile& file, std::int64_t block) {
  std::set<std::int64_t> steps;
  for (const io::TensorInfo& info : file.tensors()) {
    int b = 0, t = 0, end = 0;
    if (std::sscanf(info.name.c_str(), "b%d.ck%d.p.%n", &b, &t, &end) == 2 && end > 0 && b == block)
      steps.insert(t);
  }
  return steps;
}

// Of [P, steps] repetitions: the first step at which one departs from the run by more than 1e-6.
std::size_t agreeing_steps(const std::vector<double>& loss, const std::vector<double>& repeated) {
  for (std::size_t k = 0; k < loss.size(); ++k) {
    for (std::size_t p = 0; p * loss.size() < repeated.size(); ++p)
      if (std::abs(repeated[p * loss.size() + k] / loss[k] - 1) > 1e-6) return k;
  }
  return loss.size();
}

// Calls f(run, block number) for all blocks of all files.
template <class F>
void for_each_block(const F& f) {
  for (const auto& path : test::golden_files("omniquant", "d_")) {
    const GoldenRun run = open(path);
    for (std::int64_t i = 0; i < run.config.num_hidden_layers; ++i) {
      SCOPED_TRACE(cat(path.filename().string(), " block ", i));
      f(run, i);
    }
  }
}

#define SKIP_WITHOUT_RUNS()                          \
  if (test::golden_files("omniquant", "d_").empty()) \
  GTEST_SKIP() << "golden/omniquant/d_*.safetensors is not here (set CRUMB_SHARED)"

// How far a step with given parameters is from the authors'.
struct StepError {
  double loss = 0, gradient = 0;
  double worst() const { return std::max(loss / kLossBound, gradient / kGradientBound); }
};

TEST(OmniQuantBlock, StartFirstStepAndCheckPointsEqualTheAuthors) {
  SKIP_WITHOUT_RUNS();
  for_each_block([&](const GoldenRun& run, std::int64_t i) {
    const std::string b = cat("b", i, ".");
    const std::vector<BlockData> streams = {data_of(run, i, kEager), data_of(run, i, kFused)};
    const BlockData& data = streams[0];
    for (const LetPair& pair : data.start.let) {
      const std::string name = cat(b, "init.", test::authors_name(pair.site.site), "_smooth_scale");
      EXPECT_LT(test::relative_l2(pair.scale, tensor(run.file, name)), 1e-6) << name;
    }
    const auto head = [](const Tensor& t, const Tensor& like) { return t[0].narrow(0, 0, like.size(0)); };
    const auto stream = [&](const Tensor& ours, const std::string& name, double bound) {
      if (run.file.find(b + name) == nullptr) return;
      const Tensor golden = tensor(run.file, b + name);
      EXPECT_LT(test::relative_l2(head(ours, golden), golden), bound) << name;
    };
    const double quantized_bound =
        smooth(run) || i == 0 ? 1e-6 : 1e-2;  // else the work of activation quantizers
    stream(data.target, "fp_out_s0", 1e-6);
    stream(data.quantized, "quant_in_s0", quantized_bound);
    stream(data.second_target, "fp_out2_s0", quantized_bound);

    const auto losses = run.file.read_f64(b + "loss");
    StepError largest;
    const auto compare = [&](const std::string& gradients, const BlockParameters& given, std::int64_t step) {
      StepError best{1e30, 1e30};
      for (const BlockData& input : streams) {
        for (const nn::Compute* compute : {&kFused, &kEager}) {
          BlockParameters parameters = given;
          test::for_each_parameter(parameters,
                                   [](const std::string&, Tensor& value) { value = value.detach().clone(); });
          const double loss = teacher_force(run, input, parameters, step, *compute);
          StepError error{std::abs(loss / losses.at(static_cast<std::size_t>(step)) - 1), 0};
          test::for_each_parameter(parameters, [&](const std::string& name, Tensor& value) {
            error.gradient =
                std::max(error.gradient, test::relative_l2(value.grad(), tensor(run.file, gradients + name)));
          });
          EXPECT_LT(error.loss, smooth(run) ? kLossBound : kFlippedLoss) << "step " << step;
          EXPECT_LT(error.gradient, smooth(run) ? kGradientBound : kFlippedGradient) << "step " << step;
          if (error.worst() < best.worst()) best = error;
        }
      }
      // One order of summation in which no code flips is enough to show that the rest is the same.
      EXPECT_LT(best.loss, kLossBound) << "step " << step;
      EXPECT_LT(best.gradient, kGradientBound) << "step " << step;
      largest = {std::max(largest.loss, best.loss), std::max(largest.gradient, best.gradient)};
    };
    compare(b + "g0.", data.start, 0);
    const auto steps = check_points(run.file, i);
    EXPECT_FALSE(steps.empty());
    for (const std::int64_t t : steps)
      compare(cat(b, "ck", t, ".g."), stored(run, cat(b, "ck", t, ".p."), data.start), t);
    const std::string property = cat(run.file.path().stem().string(), "_b", i, "_");
    RecordProperty(property + "loss", cat(largest.loss));
    RecordProperty(property + "gradient", cat(largest.gradient));
  });
}

TEST(OmniQuantBlock, FusedBlocksHaveTheAuthorsCodesNormsAndErrors) {
  SKIP_WITHOUT_RUNS();
  for_each_block([&](const GoldenRun& run, std::int64_t i) {
    const std::string b = cat("b", i, ".");
    const BlockData data = data_of(run, i, kEager);
    const BlockParameters parameters = stored(run, b + "p.", data.start);
    nn::DecoderBlock fused = data.block;
    fuse_transformation(fused, parameters, run.settings);
    const auto quantized = quantize_fused(fused, parameters, run.settings, /*scale_f16=*/false);
    std::int64_t other_codes = 0;
    for (const LinearRole role : model::kLinearRoles) {
      const std::string name(model::hf_name(role));
      if (run.file.find(b + "q." + name) == nullptr) continue;
      const nn::QuantLinear& linear = fused.linear(role);
      const LwcCodes codes =
          lwc_codes(linear.weight, parameters.lwc[static_cast<std::size_t>(role)], run.settings.weights());
      const Tensor golden = stored_codes(run, b + "q." + name, linear.n, linear.k);
      other_codes += (codes.codes != golden).sum().item<std::int64_t>();
      EXPECT_LT(test::relative_l2(codes.scale, tensor(run.file, b + "scale." + name)), 1e-6) << name;
      const Tensor zero = tensor(run.file, b + "zero." + name);
      EXPECT_TRUE(at::equal(codes.zero_point, zero + 0.0f)) << name;
      // The stored form has the same codes wherever a format can hold the zero point.
      const StoredLwc& stored_form = quantized[static_cast<std::size_t>(role)];
      const Tensor outside = zero.lt(0).logical_or(zero.gt(run.settings.weights().spec().max_code()));
      EXPECT_EQ(stored_form.moved_groups, outside.sum().item<std::int64_t>()) << name;
      for (std::int64_t c = 0; c < linear.n * linear.k; ++c) {
        if (outside.flatten()[c / (linear.n * linear.k / zero.numel())].item<bool>()) continue;
        ASSERT_EQ(stored_form.linear.codes[static_cast<std::size_t>(c)],
                  codes.codes.const_data_ptr<std::uint8_t>()[c])
            << name << " " << c;
      }
    }
    EXPECT_EQ(other_codes, 0);
    const auto norm = [&](const Tensor& ours, const std::string& name) {
      EXPECT_LT(test::relative_l2(ours, tensor(run.file, b + "norm." + name)), 1e-6) << name;
    };
    norm(fused.input_norm, "input_layernorm");
    norm(fused.post_attention_norm, "post_attention_layernorm");
    const Tensor y =
        test::outputs(finished(data.block, parameters, run.settings), data.quantized, run.rope, kEager);
    if (run.file.find(b + "quant_out_s0") != nullptr) {
      const Tensor golden = tensor(run.file, b + "quant_out_s0");
      EXPECT_LT(test::relative_l2(y[0].narrow(0, 0, golden.size(0)), golden), smooth(run) ? 1e-6 : 1e-2);
    }
    const Tensor error = (y - data.target).square().mean({1, 2}), golden = tensor(run.file, b + "final_mse");
    // A flipped activation moves one window's error by up to 0.5 %.
    EXPECT_LT(((error - golden) / golden).abs().max().item<double>(), smooth(run) ? kLossBound : 2e-2);
    const std::string property = cat(run.file.path().stem().string(), "_b", i, "_");
    RecordProperty(property + "other_codes", static_cast<int>(other_codes));
    RecordProperty(property + "final_mse", cat(((error - golden) / golden).abs().max().item<double>()));
  });
}

// The largest relative difference of losses over all steps of a smooth run.
double worst_loss(const GoldenRun& run, std::int64_t block, const Trained& trained) {
  const auto losses = run.file.read_f64(cat("b", block, ".loss"));
  double worst = 0;
  for (std::size_t k = 0; k < trained.result.steps.size(); ++k)
    worst = std::max(worst, std::abs(trained.result.steps[k].loss / losses.at(k) - 1));
  return worst;
}

TEST(OmniQuantBlock, WeightOnlyRunsEqualTheAuthorsAtEveryStep) {
  SKIP_WITHOUT_RUNS();
  int runs = 0;
  for_each_block([&](const GoldenRun& run, std::int64_t i) {
    if (!smooth(run)) return;
    ++runs;
    const std::string b = cat("b", i, ".");
    const BlockData data = data_of(run, i, kEager);
    const Trained trained = train(run, data, 1, run.settings.epochs);
    ASSERT_TRUE(trained.result.finite);
    const auto losses = run.file.read_f64(b + "loss"), norms = run.file.read_f64(b + "gradnorm");
    ASSERT_EQ(trained.result.steps.size(), losses.size());
    const double worst = worst_loss(run, i, trained);
    EXPECT_LT(worst, kLossBound);
    double worst_norm = 0;
    for (std::size_t k = 0; k < norms.size(); ++k)
      worst_norm = std::max(worst_norm, std::abs(trained.result.steps[k].gradient_norm / norms[k] - 1));
    EXPECT_LT(worst_norm, kGradientBound);
    BlockParameters ours = trained.parameters;
    double worst_parameter = 0;
    test::for_each_parameter(ours, [&](const std::string& name, Tensor& value) {
      const double off = (value - tensor(run.file, b + "p." + name)).abs().max().item<double>();
      worst_parameter = std::max(worst_parameter, off);
      EXPECT_LT(off, kParameterBound) << name;
    });
    nn::DecoderBlock fused = data.block;
    fuse_transformation(fused, ours, run.settings);
    std::int64_t other_codes = 0, all_codes = 0;
    for (const LinearRole role : model::kLinearRoles) {
      const std::string name = cat(b, "q.", model::hf_name(role));
      if (run.file.find(name) == nullptr) continue;
      const nn::QuantLinear& linear = fused.linear(role);
      const LwcCodes codes =
          lwc_codes(linear.weight, ours.lwc[static_cast<std::size_t>(role)], run.settings.weights());
      other_codes += (codes.codes != stored_codes(run, name, linear.n, linear.k)).sum().item<std::int64_t>();
      all_codes += linear.n * linear.k;
    }
    // A few per 100,000 weights may stand on a rounding boundary; the authors' own repetitions flip none.
    EXPECT_LE(other_codes, all_codes / 50000);
    const std::string property = cat(run.file.path().stem().string(), "_b", i, "_");
    RecordProperty(property + "loss", cat(worst));
    RecordProperty(property + "gradnorm", cat(worst_norm));
    RecordProperty(property + "parameter", cat(worst_parameter));
    RecordProperty(property + "other_codes", static_cast<int>(other_codes));
  });
  if (runs == 0) GTEST_SKIP() << "no weight-only run among golden/omniquant/d_*.safetensors";
}

// What a first update moved differently. Adam's first step is lr g / (|g| + eps): where g is lost in the
// rounding of the others, so is its direction.
double first_update_error(const GoldenRun& run, const std::string& block, const Trained& trained) {
  double worst = 0;
  for (const LetPair& pair : trained.after_first_step) {
    const std::string name = cat(test::authors_name(pair.site.site), "_smooth_scale");
    const Tensor g = tensor(run.file, block + "g0." + name).abs(), clear = g > 1e-4 * g.max();
    const Tensor golden = tensor(run.file, block + "p1." + name);
    const Tensor off = (pair.scale - golden).abs() / golden.abs().clamp_min(1) * clear;
    worst = std::max(worst, off.max().item<double>());
  }
  return worst;
}

TEST(OmniQuantBlock, RunsWithQuantizedActivationsStayWithTheAuthors) {
  SKIP_WITHOUT_RUNS();
  int runs = 0;
  for_each_block([&](const GoldenRun& run, std::int64_t i) {
    if (smooth(run)) return;
    ++runs;
    const std::string b = cat("b", i, ".");
    const auto losses = run.file.read_f64(b + "loss"), repeated = run.file.read_f64(b + "loss_perturbed");
    const std::size_t steps = losses.size(), epochs = static_cast<std::size_t>(run.settings.epochs),
                      batches = steps / epochs, agreeing = agreeing_steps(losses, repeated);
    const auto mean = [&](const std::vector<double>& of, std::size_t row, std::size_t epoch) {
      double sum = 0;
      for (std::size_t k = 0; k < batches; ++k) sum += of[row * steps + epoch * batches + k];
      return sum / static_cast<double>(batches);
    };
    // Our rounding is one more perturbation, so our run departs somewhere too: of six repetitions one has to
    // stay at least as long as all of the authors' do. All of them have to stay in the envelope of the
    // authors' epochs.
    std::size_t longest = 0;
    double first_update = 1e30, worst_epoch = 0;
    for (const nn::Compute* stream : {&kEager, &kFused}) {
      const BlockData data = data_of(run, i, *stream);
      for (const auto& [compute, noise] :
           {std::pair(&kEager, 0.0), std::pair(&kFused, 0.0), std::pair(&kFused, 1.2e-7)}) {
        const Trained trained = train(run, data, 1, run.settings.epochs, *compute, noise);
        ASSERT_TRUE(trained.result.finite);
        ASSERT_EQ(trained.result.steps.size(), steps);
        std::size_t equal = 0;
        while (equal < steps && std::abs(trained.result.steps[equal].loss / losses[equal] - 1) < kLossBound)
          ++equal;
        longest = std::max(longest, equal);
        first_update = std::min(first_update, first_update_error(run, b, trained));
        for (std::size_t epoch = 0; epoch < epochs; ++epoch) {
          double low = mean(losses, 0, epoch), high = low;
          for (std::size_t p = 0; p * steps < repeated.size(); ++p) {
            low = std::min(low, mean(repeated, p, epoch));
            high = std::max(high, mean(repeated, p, epoch));
          }
          const double ours = trained.result.epoch_train_loss.at(epoch);
          worst_epoch = std::max(worst_epoch, std::abs(ours / mean(losses, 0, epoch) - 1));
          EXPECT_GT(ours, low * (1 - kEpochBound)) << "epoch " << epoch;
          EXPECT_LT(ours, high * (1 + kEpochBound)) << "epoch " << epoch;
        }
      }
    }
    EXPECT_GE(longest, std::max<std::size_t>(1, agreeing));
    EXPECT_LT(first_update, kFirstUpdateBound);
    const std::string property = cat(run.file.path().stem().string(), "_b", i, "_");
    RecordProperty(property + "agreeing", static_cast<int>(agreeing));
    RecordProperty(property + "equal", static_cast<int>(longest));
    RecordProperty(property + "p1", cat(first_update));
    RecordProperty(property + "epoch", cat(worst_epoch));
  });
  if (runs == 0) GTEST_SKIP() << "no run with quantized activations among golden/omniquant/d_*.safetensors";
}

TEST(OmniQuantBlock, TheBoundsNoticeALearningRateThatIsOffByOnePercent) {
  SKIP_WITHOUT_RUNS();
  for (const auto& path : test::golden_files("omniquant", "d_")) {
    SCOPED_TRACE(path.filename().string());
    const GoldenRun run = open(path);
    const Trained trained = train(run, data_of(run, 0, kEager), 1.01, 1);
    if (smooth(run)) {
      EXPECT_GT(worst_loss(run, 0, trained), kLossBound);
    }
    if (run.settings.let) {
      EXPECT_GT(first_update_error(run, "b0.", trained), kFirstUpdateBound);
    }
  }
}

}  // namespace
}  // namespace crumb::methods::omniquant
