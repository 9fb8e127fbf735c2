// The engine against a model written out in plain loops.
#include "runtime/engine.h"

#include <gtest/gtest.h>

#include <cstring>

#include "io/atomic_output.h"
#include "io/json.h"
#include "runtime/packed_model.h"
#include "support/expect_error.h"
#include "support/tiny_gguf.h"

namespace crumb::runtime {
namespace {

using nlohmann::ordered_json;
using test::PlainTensors;
using test::TinyModel;

std::unique_ptr<Engine> load(const std::filesystem::path& path, Accuracy accuracy = Accuracy::kExact,
                             const std::function<void(EngineOptions&)>& change = {}) {
  EngineOptions options;
  options.accuracy = accuracy;
  options.threads = 2;
  if (change) change(options);
  return Engine::load(path, options);
}

/// Logits of every position in one go.
std::vector<std::vector<float>> all_logits(Engine& engine, std::span<const std::int32_t> ids) {
  const auto sequence = engine.new_sequence(static_cast<std::int64_t>(ids.size()));
  std::vector<std::vector<float>> out;
  engine.step_all({sequence.get(), ids},
                  [&](std::int64_t first, std::int64_t rows, std::span<const float> logits) {
                    EXPECT_EQ(first, static_cast<std::int64_t>(out.size()));
                    const std::size_t width = logits.size() / static_cast<std::size_t>(rows);
                    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r)
                      out.emplace_back(logits.begin() + static_cast<std::ptrdiff_t>(r * width),
                                       logits.begin() + static_cast<std::ptrdiff_t>((r + 1) * width));
                  });
  EXPECT_EQ(sequence->length(), static_cast<std::int64_t>(ids.size()));
  return out;
}

struct Distance {
  double worst = 0, root_mean_square = 0;
};
Distance distance(const std::vector<std::vector<float>>& got,
                  const std::vector<std::vector<double>>& wanted) {
  Distance out;
  double count = 0;
  EXPECT_EQ(got.size(), wanted.size());
  for (std::size_t p = 0; p < std::min(got.size(), wanted.size()); ++p) {
    EXPECT_EQ(got[p].size(), wanted[p].size());
    for (std::size_t i = 0; i < wanted[p].size(); ++i) {
      const double e = std::abs(got[p][i] - wanted[p][i]);
      out.worst = std::isnan(e) ? 1e300 : std::max(out.worst, e);
      out.root_mean_square += e * e;
      ++count;
    }
  }
  out.root_mean_square = std::sqrt(out.root_mean_square / count);
  return out;
}
double spread(const std::vector<std::vector<double>>& logits) {
  double sum = 0, count = 0;
  for (const auto& row : logits)
    for (const double v : row) sum += v * v, ++count;
  return std::sqrt(sum / count);
}

/// f32 through two blocks: a sum of K <= 128 products of random signs errs by about sqrt(K) 2^-24 of its
/// size, below 2^-20; some twenty such steps follow each other, each of which the residual stream passes on
/// with a gain of about one. Logits here are of size 2 to 4. A wrong position, head or bias shows at 10^-1.
constexpr double kExactBound = 2e-5;

struct NamedModel {
  std::string name;
  TinyModel model;
};

std::vector<NamedModel> every_family() {
  std::vector<NamedModel> all(9);
  all[0] = {"llama", {}};
  all[1].name = "llama, linear rope";
  all[1].model.changes["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  all[2].name = "llama3 rope, tied";
  all[2].model.tied = true;
  all[2].model.changes["rope_scaling"] = {{"rope_type", "llama3"},
                                          {"factor", 8.0},
                                          {"low_freq_factor", 1.0},
                                          {"high_freq_factor", 4.0},
                                          {"original_max_position_embeddings", 64}};
  all[3].name = "yarn, odd head size";
  all[3].model.head_dim = 6;
  all[3].model.heads = 9;
  all[3].model.kv_heads = 3;
  all[3].model.changes["rope_scaling"] = {
      {"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  all[4].name = "llama with every bias";
  all[4].model.qkv_bias = all[4].model.output_bias = all[4].model.mlp_bias = true;
  all[5].name = "mistral, window";
  all[5].model.family = "mistral";
  all[5].model.architecture = "MistralForCausalLM";
  all[5].model.changes["sliding_window"] = 11;
  all[6].name = "qwen2, tied";
  all[6].model.family = "qwen2";
  all[6].model.architecture = "Qwen2ForCausalLM";
  all[6].model.qkv_bias = all[6].model.tied = true;
  all[7].name = "qwen3, large heads";
  all[7].model.family = "qwen3";
  all[7].model.architecture = "Qwen3ForCausalLM";
  all[7].model.qk_norm = true;
  all[7].model.head_dim = 32;
  all[8].name = "one head, sizes that fill no tile";
  all[8].model.heads = all[8].model.kv_heads = 1;
  all[8].model.head_dim = 10;
  all[8].model.hidden = 52;
  all[8].model.intermediate = 76;
  return all;
}

TEST(Engine, FloatModelsOfEveryFamilyEqualThePlainForward) {
  const std::vector<std::int32_t> ids = test::random_ids(70, 3);
  for (const auto& [name, model] : every_family()) {
    SCOPED_TRACE(name);
    const test::TempDir folder;
    const test::TinyTensors tensors = test::tiny_tensors(model);
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      test::write_tiny_model(folder / std::string(to_string(dtype)), model, tensors, dtype);
      const auto engine = load(folder / std::string(to_string(dtype)));
      const auto wanted = test::plain_forward(engine->config(), test::plain_tensors(tensors), ids);
      EXPECT_LT(distance(all_logits(*engine, ids), wanted).worst, kExactBound) << to_string(dtype);
    }
  }
}

TEST(Engine, PackedModelsEqualThePlainForwardOfTheirWeights) {
  const std::vector<std::int32_t> ids = test::random_ids(40, 4);
  for (const auto& [name, model] : every_family()) {
    if (model.hidden % 32 != 0 || model.heads * model.head_dim % 32 != 0) continue;
    for (const quant::AffineSpec& spec :
         {quant::AffineSpec{2, 32, quant::Grid::kAsym}, quant::AffineSpec{3, 32, quant::Grid::kAsym},
          quant::AffineSpec{4, 64, quant::Grid::kSignedSym}, quant::AffineSpec{8, -1, quant::Grid::kAsym}}) {
      SCOPED_TRACE(name + " " + quant::scheme_name(spec));
      const test::TempDir folder;
      const test::TinyTensors tensors = test::tiny_tensors(model);
      test::write_tiny_model(folder / "float", model, tensors);
      PlainTensors plain = test::plain_tensors(tensors);
      test::write_packed_model(folder / "float", folder / "packed", spec, plain);
      const auto exact = load(folder / "packed");
      const auto wanted = test::plain_forward(exact->config(), plain, ids);
      EXPECT_LT(distance(all_logits(*exact, ids), wanted).worst, kExactBound);
      // int8: rounding an activation of a chunk errs by at most 1/254 of the chunk's largest, uniformly: for
      // normal numbers (largest of 64 about 2.6 deviations) a relative deviation of 2.6 / 254 / sqrt(3) = 0.6
      // %. The seven products of each of two blocks add up as independent errors do: 0.6 % sqrt(7 * 2) = 2.2
      // % of the logits' spread at most; twice that is the bound. An error in place or sign is of the size of
      // the spread itself.
      const auto fast = load(folder / "packed", Accuracy::kInt8);
      const Distance d = distance(all_logits(*fast, ids), wanted);
      EXPECT_LT(d.root_mean_square, 0.045 * spread(wanted));
      EXPECT_GT(d.worst, kExactBound) << "int8 activations that change nothing are not int8";
    }
  }
}

TEST(Engine, TheBoundCatchesOneChangedWeight) {
  const std::vector<std::int32_t> ids = test::random_ids(20, 5);
  const test::TempDir folder;
  test::TinyTensors tensors = test::tiny_tensors();
  const PlainTensors plain = test::plain_tensors(tensors);
  for (const char* name : {"model.layers.1.self_attn.k_proj.weight", "model.layers.0.mlp.down_proj.weight",
                           "model.layers.1.post_attention_layernorm.weight"}) {
    test::TinyTensors changed = tensors;
    changed.at(name).values[3] += 0.01f;
    test::write_tiny_model(folder / "changed", {}, changed);
    const auto engine = load(folder / "changed");
    EXPECT_GT(distance(all_logits(*engine, ids), test::plain_forward(engine->config(), plain, ids)).worst,
              kExactBound)
        << name;
  }
}

TEST(Engine, GgufEqualsThePlainForward) {
  const std::vector<std::int32_t> ids = test::random_ids(20, 6);
  const test::TempDir folder;
  const test::TinyTensors tensors = test::tiny_tensors();
  for (const std::uint32_t type : {test::kGgufF32, test::kGgufF16, test::kGgufBf16}) {
    test::write_tiny_gguf(folder / "m.gguf", {}, tensors, type);
    for (const Accuracy accuracy : {Accuracy::kExact, Accuracy::kInt8}) {
      const auto engine =
          load(folder / "m.gguf", accuracy, [](EngineOptions& o) { o.kv_format = kernels::KvFormat::kF32; });
      const auto wanted = test::plain_forward(engine->config(), test::plain_tensors(tensors), ids);
      EXPECT_LT(distance(all_logits(*engine, ids), wanted).worst, kExactBound);
    }
  }
}

TEST(Engine, GgufOfGridTypesKeepsItsCodes) {
  const std::vector<std::int32_t> ids = test::random_ids(20, 6);
  const test::TempDir folder;
  const test::TinyTensors tensors = test::tiny_tensors();
  for (const std::uint32_t type : {test::kGgufQ4_0, test::kGgufQ8_0, test::kGgufQ2_0}) {
    test::write_tiny_gguf(folder / "m.gguf", {}, tensors, type);
    const auto checkpoint = formats::Checkpoint::open(folder / "m.gguf");
    PlainTensors plain;
    for (const auto& [name, tensor] : tensors) {
      const std::vector<float> values = checkpoint->read_f32(name);
      plain[name].assign(values.begin(), values.end());
    }
    const auto wanted = test::plain_forward(checkpoint->config(), plain, ids);
    const auto exact = load(folder / "m.gguf", Accuracy::kExact);
    EXPECT_TRUE(exact->weights().blocks[1].linears[0].is_lowbit);
    EXPECT_TRUE(exact->weights().head.is_lowbit);
    EXPECT_LT(distance(all_logits(*exact, ids), wanted).worst, kExactBound) << type;
    const auto rounded = load(folder / "m.gguf", Accuracy::kInt8);
    const Distance d = distance(all_logits(*rounded, ids), wanted);
    EXPECT_GT(d.worst, kExactBound) << "activations are rounded";
    EXPECT_LT(d.root_mean_square, 0.03 * spread(wanted)) << type;
  }
}

class PackedModel : public ::testing::Test {
 protected:
  void SetUp() override {
    model_.tied = true;
    const test::TinyTensors tensors = test::tiny_tensors(model_);
    test::write_tiny_model(folder_ / "float", model_, tensors);
    plain_ = test::plain_tensors(tensors);
    test::write_packed_model(folder_ / "float", folder_ / "packed", {2, 32, quant::Grid::kAsym}, plain_);
  }
  test::TempDir folder_;
  TinyModel model_;
  PlainTensors plain_;
};

/// In both accuracies.
class PackedEngine : public PackedModel, public ::testing::WithParamInterface<Accuracy> {
 protected:
  std::unique_ptr<Engine> engine(const std::function<void(EngineOptions&)>& change = {}) {
    return load(folder_ / "packed", GetParam(), change);
  }
};
INSTANTIATE_TEST_SUITE_P(Accuracies, PackedEngine, ::testing::Values(Accuracy::kExact, Accuracy::kInt8),
                         [](const auto& p) { return std::string(to_string(p.param)); });

TEST_P(PackedEngine, BitsDependOnNeitherNeighboursChunksNorThreads) {
  const auto alone = engine([](EngineOptions& o) { o.threads = 1; });
  const std::vector<std::vector<std::int32_t>> prompts = {test::random_ids(37, 1), test::random_ids(1, 2),
                                                          test::random_ids(90, 3)};
  std::vector<std::vector<std::vector<float>>> wanted;
  for (const auto& ids : prompts) wanted.push_back(all_logits(*alone, ids));
  for (const int threads : {1, 2, 5}) {
    for (const std::int64_t chunk : {1, 7, 64, 256}) {
      SCOPED_TRACE(::testing::Message() << threads << " threads, chunks of " << chunk);
      const auto together = engine([&](EngineOptions& o) {
        o.threads = threads;
        o.chunk_tokens = chunk;
      });
      std::vector<std::unique_ptr<KvCache>> sequences;
      std::vector<StepInput> batch;
      for (const auto& ids : prompts) {
        sequences.push_back(together->new_sequence(120));
        batch.push_back({sequences.back().get(), ids});
      }
      const std::span<const float> logits = together->step(batch);
      const std::size_t width = logits.size() / 3;
      for (std::size_t i = 0; i < 3; ++i)
        EXPECT_EQ(std::memcmp(logits.data() + i * width, wanted[i].back().data(), width * 4), 0) << i;
      EXPECT_EQ(all_logits(*together, prompts[2]), wanted[2]);
    }
  }
}

TEST_P(PackedEngine, TokenByTokenEqualsAtOnce) {
  for (const kernels::KvFormat format : {kernels::KvFormat::kF32, kernels::KvFormat::kF16,
                                         kernels::KvFormat::kInt8, kernels::KvFormat::kInt4}) {
    const auto e = engine([&](EngineOptions& o) { o.kv_format = format; });
    const std::vector<std::int32_t> ids = test::random_ids(80, 7);
    const auto wanted = all_logits(*e, ids);
    const auto sequence = e->new_sequence(80);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const StepInput one{sequence.get(), std::span(ids).subspan(i, 1)};
      const std::span<const float> logits = e->step({&one, 1});
      ASSERT_EQ(std::memcmp(logits.data(), wanted[i].data(), logits.size_bytes()), 0)
          << to_string(format) << " token " << i;
    }
  }
}

TEST_P(PackedEngine, APrefixIsComputedOnce) {
  const auto e = engine();
  const std::vector<std::int32_t> first = test::random_ids(50, 8);
  std::vector<std::int32_t> second(first.begin(), first.begin() + 30);
  second.push_back((first[30] + 1) % 250);
  for (const std::int32_t id : test::random_ids(8, 9)) second.push_back(id);
  const auto sequence = e->new_sequence(64);
  StepInput input{sequence.get(), first};
  e->step({&input, 1});
  EXPECT_EQ(sequence->reuse_prefix(second), 30);
  input.tokens = std::span(second).subspan(30);
  const std::span<const float> logits = e->step({&input, 1});
  const std::vector<float> got(logits.begin(), logits.end());
  EXPECT_EQ(got, all_logits(*e, second).back());
  // The same prompt again: its last token is computed for its logits.
  EXPECT_EQ(sequence->reuse_prefix(second), static_cast<std::int64_t>(second.size()) - 1);
}

TEST_F(PackedModel, SmallerCachesStayNearby) {
  const std::vector<std::int32_t> ids = test::random_ids(60, 10);
  const auto exact = load(folder_ / "packed", Accuracy::kExact,
                          [](EngineOptions& o) { o.kv_format = kernels::KvFormat::kF32; });
  std::vector<std::vector<double>> wanted;
  for (const auto& row : all_logits(*exact, ids)) wanted.emplace_back(row.begin(), row.end());
  // Half a step of the format (2^-12, 1/254, 1/30 of the range) reaches the output through two attentions,
  // which average it over what they see; the residual stream around them is larger. Int4's 1/30 of a range of
  // about four deviations is 0.13 of a deviation at most, 0.08 on average.
  const std::pair<kernels::KvFormat, double> bounds[] = {
      {kernels::KvFormat::kF16, 2e-3}, {kernels::KvFormat::kInt8, 0.03}, {kernels::KvFormat::kInt4, 0.16}};
  double before = 0;
  for (const auto& [format, bound] : bounds) {
    const auto e =
        load(folder_ / "packed", Accuracy::kExact, [&](EngineOptions& o) { o.kv_format = format; });
    const double error = distance(all_logits(*e, ids), wanted).root_mean_square / spread(wanted);
    EXPECT_LT(error, bound) << to_string(format);
    EXPECT_GT(error, before) << to_string(format);
    before = error;
  }
}

TEST_P(PackedEngine, HeadAndEmbeddingMayBeCodes) {
  const std::vector<std::int32_t> ids = test::random_ids(30, 11);
  for (const bool tied : {true, false}) {
    model_.tied = tied;
    const test::TinyTensors tensors = test::tiny_tensors(model_);
    const test::TempDir folder;
    test::write_tiny_model(folder / "float", model_, tensors);
    PlainTensors plain = test::plain_tensors(tensors);
    for (const int bits : {8, 6, 4}) {
      for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
        if (!tensors.contains(name)) continue;
        const auto& t = tensors.at(name);
        const std::vector<float> w_hat = quant::dequantize(
            quantize_matrix(t.values, t.shape[0], t.shape[1], {bits, 64, quant::Grid::kAsym}));
        plain[name].assign(w_hat.begin(), w_hat.end());
        for (std::size_t i = 0; i < w_hat.size(); ++i) {
          // Half a step of the widest group here, and what rounding the scale to binary16 takes off its ends.
          ASSERT_NEAR(w_hat[i], t.values[i], 6.0 / ((1 << bits) - 1) * 0.5 + 6.0 * 0x1p-11) << name;
        }
      }
      const auto e = load(folder / "float", GetParam(), [&](EngineOptions& o) { o.head_bits = bits; });
      const auto wanted = test::plain_forward(e->config(), plain, ids);
      const Distance d = distance(all_logits(*e, ids), wanted);
      if (GetParam() == Accuracy::kExact)
        EXPECT_LT(d.worst, kExactBound);
      else  // the blocks are floats, the head alone is rounded: see PackedModels…
        EXPECT_LT(d.root_mean_square, 0.015 * spread(wanted));
    }
  }
}

TEST_P(PackedEngine, TheHeadHasTheBitsThatTheModelAsksFor) {
  const bool exact = GetParam() == Accuracy::kExact;
  const auto set_head_bits = [&](const nlohmann::json& bits) {
    for (const char* name : {"config.json", "quantize_config.json"}) {
      nlohmann::json all = io::parse_json(io::read_text_file(folder_ / "packed" / name), name);
      nlohmann::json& config = std::string_view(name) == "config.json" ? all["quantization_config"] : all;
      if (bits.is_null())
        config["meta"].erase("head_bits");
      else
        config["meta"]["head_bits"] = bits;
      io::write_text_atomically(folder_ / "packed" / name, all.dump());
    }
  };
  const auto head = [](const Engine& e) {
    return e.weights().head.is_lowbit ? e.weights().head.lowbit.shape.bits : 0;
  };
  for (const nlohmann::json& said : {nlohmann::json(4), nlohmann::json(0), nlohmann::json(nullptr)}) {
    set_head_bits(said);
    EXPECT_EQ(head(*engine()), exact ? 0 : said.is_null() ? 8 : said.get<int>()) << said.dump();
    EXPECT_EQ(head(*engine([](EngineOptions& o) { o.head_bits = 8; })), 8) << "the caller's word comes first";
  }
}

TEST_P(PackedEngine, WrongInputsAreRefusedBeforeAnythingIsComputed) {
  const auto e = engine();
  const auto a = e->new_sequence(8);
  const std::vector<std::int32_t> ids = test::random_ids(9, 12), bad = {3, 258}, negative = {-1};
  const std::span<const std::int32_t> all(ids);
  const auto step = [&](std::vector<StepInput> batch) { e->step(batch); };
  using test::expect_error;
  constexpr ErrorKind kInvalid = ErrorKind::kInvalidArgument;
  expect_error(kInvalid, {"no sequences"}, [&] { step({}); });
  expect_error(kInvalid, {"no tokens"}, [&] { step({{a.get(), {}}}); });
  expect_error(kInvalid, {"token id 258", "0 … 257"}, [&] { step({{a.get(), bad}}); });
  expect_error(kInvalid, {"token id -1"}, [&] { step({{a.get(), negative}}); });
  expect_error(kInvalid, {"9 tokens", "opened for 8", "256"}, [&] { step({{a.get(), all}}); });
  expect_error(kInvalid, {"sequences 0 and 1"}, [&] {
    step({{a.get(), all.first(1)}, {a.get(), all.first(1)}});
  });
  EXPECT_EQ(a->length(), 0);
  expect_error(kInvalid, {"context of 257", "1 … 256"}, [&] { e->new_sequence(257); });
  expect_error(kInvalid, {"context of 0"}, [&] { e->new_sequence(0); });
}

TEST(EngineOptions, WrongOnesAreRefused) {
  const test::TempDir folder;
  test::write_tiny_model(folder / "m");
  using test::expect_error;
  const auto with = [&](const std::function<void(EngineOptions&)>& change) {
    load(folder / "m", Accuracy::kInt8, change);
  };
  expect_error(ErrorKind::kInvalidArgument, {"1025 threads", "1 … 1024"},
               [&] { with([](EngineOptions& o) { o.threads = 1025; }); });
  expect_error(ErrorKind::kInvalidArgument, {"head of 5 bits", "8, 6, 4"},
               [&] { with([](EngineOptions& o) { o.head_bits = 5; }); });
  expect_error(ErrorKind::kInvalidArgument, {"chunks of 0"},
               [&] { with([](EngineOptions& o) { o.chunk_tokens = 0; }); });
  expect_error(ErrorKind::kNotFound, {"nowhere"}, [&] { load(folder / "nowhere"); });
  test::TinyModel unknown;
  unknown.family = "mamba";
  unknown.architecture = "MambaForCausalLM";
  test::write_tiny_model(folder / "u", unknown);
  expect_error(ErrorKind::kUnsupported, {"MambaForCausalLM"}, [&] { load(folder / "u"); });
}

}  // namespace
}  // namespace crumb::runtime
