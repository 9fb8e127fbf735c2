// Packed models written as GGUF files and opened again.
#include "formats/gguf_export.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/half.h"
#include "formats/gguf_metadata.h"
#include "formats/gguf_types.h"
#include "formats/hf_output.h"
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
namespace fs = std::filesystem;

/// `model` rounded to `spec` (min-max), as a packed directory; scales of every third group are negative.
std::unique_ptr<Checkpoint> packed_model(const fs::path& folder, const TinyModel& model,
                                         const quant::AffineSpec& spec) {
  test::write_tiny_model(folder / "float", model);
  const auto source = Checkpoint::open(folder / "float");
  fs::create_directory(folder / "packed");
  HfOutputOptions options;
  options.spec = spec;
  write_hf_gptq(*source, folder / "packed", options, [&](std::int64_t block) {
    PackedBlock packed;
    for (const model::LinearRole role : model::kLinearRoles) {
      const auto [n, k] = model::linear_shape(source->config(), role);
      const std::vector<float> w = source->read_f32(model::linear_name(block, role) + ".weight");
      const auto groups = static_cast<std::size_t>(n * spec.groups(k));
      quant::QuantizedLinear linear{n, k, spec, std::vector<std::uint8_t>(w.size()), {}, {}};
      std::vector<float> zeros(groups);
      linear.scales.resize(groups);
      quant::init_minmax(w, n, k, spec, linear.scales, zeros);
      for (std::size_t i = 0; i < groups; ++i) {
        linear.scales[i] = round_to_f16(linear.scales[i]);
        if (spec.grid == quant::Grid::kSignedSym)
          zeros[i] = static_cast<float>((1 << (spec.bits - 1)) - i % 2);
        zeros[i] = quant::effective_zero_point(zeros[i], spec);
        linear.zero_points.push_back(static_cast<std::uint8_t>(zeros[i]));
      }
      quant::quantize(w, linear.scales, zeros, n, k, spec, linear.codes);
      for (std::size_t i = 0; i < groups; i += 3) linear.scales[i] = -linear.scales[i];
      packed.linears[static_cast<std::size_t>(role)] = std::move(linear);
    }
    return packed;
  });
  return Checkpoint::open(folder / "packed");
}

TinyModel family(const std::string& name) {
  TinyModel m;
  m.hidden = 128;
  m.intermediate = 192;
  m.head_dim = 32;
  if (name == "biased llama") m.qkv_bias = m.output_bias = m.mlp_bias = true;
  if (name == "tied llama") m.tied = true;
  if (name == "mistral") {
    m.family = "mistral";
    m.architecture = "MistralForCausalLM";
    m.changes = {{"sliding_window", 64}};
  }
  if (name == "qwen2") {
    m.family = "qwen2";
    m.architecture = "Qwen2ForCausalLM";
    m.qkv_bias = m.tied = true;
  }
  if (name == "qwen3") {
    m.family = "qwen3";
    m.architecture = "Qwen3ForCausalLM";
    m.qk_norm = true;
    m.head_dim = 64;
  }
  return m;
}

/// w_hat where the source holds codes, else the floats.
std::vector<float> weights_of(const Checkpoint& source, const model::PromisedTensor& tensor) {
  if (tensor.linear_weight) {
    const auto linear = source.read_packed(tensor.name.substr(0, tensor.name.size() - 7));
    if (linear) return quant::dequantize(*linear);
  }
  return source.read_f32(tensor.name);
}

void expect_same_weights(const Checkpoint& found, const Checkpoint& source) {
  std::vector<model::PromisedTensor> tensors = model::outer_tensors(source.config());
  for (std::int64_t block = 0; block < source.config().num_hidden_layers; ++block) {
    for (auto& tensor : model::block_tensors(source.config(), block)) tensors.push_back(std::move(tensor));
  }
  for (const auto& tensor : tensors)
    EXPECT_EQ(found.read_f32(tensor.name), weights_of(source, tensor)) << tensor.name;  // -0 equals 0
}

ExportOptions half_heads() {
  ExportOptions options;
  options.head_type = "F16";
  return options;
}

TEST(GgufExport, EveryFamilyComesBackWithTheSameWeights) {
  struct Case {
    const char* family;
    quant::AffineSpec spec;
    const char* type;
  };
  const Case cases[] = {{"llama", {2, 64, quant::Grid::kSignedSym}, "Q2_0"},
                        {"llama", {3, 32, quant::Grid::kAsym}, "Q4_0"},
                        {"biased llama", {2, 64, quant::Grid::kSignedSym}, "Q2_0"},
                        {"tied llama", {4, 64, quant::Grid::kAsym}, "Q5_0"},
                        {"mistral", {4, 64, quant::Grid::kSignedSym}, "Q4_0"},
                        {"qwen2", {2, 32, quant::Grid::kAsym}, "Q4_0"},
                        {"qwen3", {2, -1, quant::Grid::kSignedSym}, "Q2_0"}};
  for (const Case& c : cases) {
    SCOPED_TRACE(cat(c.family, " ", quant::scheme_name(c.spec)));
    const test::TempDir folder;
    const TinyModel m = family(c.family);
    const auto source = packed_model(folder.path(), m, c.spec);
    for (const LinearFit& fit : gguf_exporter().fits(*source)) {
      EXPECT_EQ(fit.stored_as, c.type) << fit.linear << fit.reason;
      EXPECT_TRUE(fit.lossless);
    }
    const ExportReport report = gguf_exporter().write(*source, folder / "m.gguf", half_heads());
    EXPECT_EQ(report.file_bytes, static_cast<std::int64_t>(fs::file_size(folder / "m.gguf")));
    EXPECT_TRUE(report.lossy.empty());
    const auto found = Checkpoint::open(folder / "m.gguf");
    EXPECT_EQ(found->tensor_bytes(), report.tensor_bytes);
    EXPECT_EQ(found->describe(), cat("GGUF ", c.type));
    expect_same_weights(*found, *source);
    const model::ModelConfig &a = found->config(), &b = source->config();
    EXPECT_EQ(a.family, b.family == "mistral" ? "llama" : b.family);
    EXPECT_EQ(a.num_hidden_layers, b.num_hidden_layers);
    EXPECT_EQ(a.head_dim, b.head_dim);
    EXPECT_EQ(a.vocab_size, b.vocab_size);
    EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
    EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
    EXPECT_EQ(a.attention_bias, b.attention_bias);
    EXPECT_EQ(a.mlp_bias, b.mlp_bias);
    EXPECT_EQ(a.qk_norm, b.qk_norm);
    EXPECT_EQ(a.bos_token_id, b.bos_token_id);
    EXPECT_EQ(a.eos_token_ids, b.eos_token_ids);
    EXPECT_EQ(a.max_position_embeddings, b.sliding_window > 0 ? b.sliding_window : b.max_position_embeddings);
    EXPECT_EQ(model::rope_frequencies(a).inv_freq, model::rope_frequencies(b).inv_freq);
  }
}

// Negative control of the test above: with the rows of q as they are, they come back as others.
TEST(GgufExport, RowsOfQueriesAndKeysAreMoved) {
  const test::TempDir folder;
  const auto source = packed_model(folder.path(), family("llama"), {2, 64, quant::Grid::kSignedSym});
  gguf_exporter().write(*source, folder / "m.gguf", half_heads());
  const io::GgufFile file(folder / "m.gguf");
  const auto stored = [&](const char* name) {
    const io::GgufTensor& tensor = *file.find(name);
    std::vector<float> values(static_cast<std::size_t>(tensor.dims[0] * tensor.dims[1]));
    dequantize_gguf(*find_gguf_type(tensor.type),
                    file.bytes(tensor, static_cast<std::uint64_t>(gguf_tensor_bytes(tensor))), values);
    return values;
  };
  const auto w_hat = [&](const char* linear) { return quant::dequantize(*source->read_packed(linear)); };
  const std::vector<float> q = w_hat("model.layers.0.self_attn.q_proj"),
                           stored_q = stored("blk.0.attn_q.weight");
  EXPECT_NE(stored_q, q);
  EXPECT_EQ(stored_q, test::permuted_rows({{128, 128}, q}, 4));
  EXPECT_EQ(stored("blk.0.attn_k.weight"),
            test::permuted_rows({{64, 128}, w_hat("model.layers.0.self_attn.k_proj")}, 2));
  EXPECT_EQ(stored("blk.0.attn_v.weight"), w_hat("model.layers.0.self_attn.v_proj"));
}

TEST(GgufExport, CodesOfGridTypesStayCodesThroughASecondExport) {
  const test::TempDir folder;
  const auto source = packed_model(folder.path(), family("llama"), {2, 64, quant::Grid::kSignedSym});
  gguf_exporter().write(*source, folder / "a.gguf", half_heads());
  const auto first = Checkpoint::open(folder / "a.gguf");
  const std::string linear = "model.layers.1.mlp.up_proj.weight";
  EXPECT_EQ(first->grid_of(linear), (quant::AffineSpec{2, 32, quant::Grid::kSignedSym}));
  EXPECT_EQ(quant::dequantize(first->read_codes(linear)),
            quant::dequantize(*source->read_packed("model.layers.1.mlp.up_proj")));
  // Again from the GGUF file: the same tensors, byte for byte.
  fs::create_directory(folder / "again");
  gguf_exporter().write(*first, folder / "again" / "a.gguf", half_heads());
  const std::string a = io::read_text_file(folder / "a.gguf"),
                    b = io::read_text_file(folder / "again" / "a.gguf");
  const auto tensors = static_cast<std::size_t>(first->tensor_bytes());
  ASSERT_GT(std::min(a.size(), b.size()), tensors);
  EXPECT_EQ(a.substr(a.size() - tensors), b.substr(b.size() - tensors));
}

TEST(GgufExport, SmallTypesWithLossOnlyWhereAsked) {
  const test::TempDir folder;
  TinyModel m = family("llama");
  m.hidden = m.intermediate = 256;
  m.heads = 8;
  const auto source = packed_model(folder.path(), m, {4, 64, quant::Grid::kAsym});
  ExportOptions options = half_heads();
  const ExportReport exact = gguf_exporter().write(*source, folder / "exact.gguf", options);
  options.requantize = true;
  const ExportReport near = gguf_exporter().write(*source, folder / "near.gguf", options);
  EXPECT_TRUE(exact.lossy.empty());
  ASSERT_EQ(near.lossy.size(), 14u);
  EXPECT_LT(near.tensor_bytes, exact.tensor_bytes);
  const auto found = Checkpoint::open(folder / "near.gguf");
  for (const auto& [fit, error] : near.lossy) {
    EXPECT_EQ(fit.stored_as, "Q4_K");
    EXPECT_FALSE(fit.lossless);
    EXPECT_FALSE(fit.reason.empty());
    const std::vector<float> w = quant::dequantize(*source->read_packed(fit.linear)),
                             stored = found->read_f32(fit.linear + ".weight");
    double difference = 0, energy = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      difference += std::pow(static_cast<double>(w[i]) - static_cast<double>(stored[i]), 2);
      energy += std::pow(static_cast<double>(w[i]), 2);
    }
    EXPECT_NEAR(error, std::sqrt(difference / energy), 1e-9);
    EXPECT_GT(error, 1e-5);
    EXPECT_LT(error, 2e-2);
  }
}

TEST(GgufExport, EmbeddingAndHeadTakeTheTypeAskedFor) {
  const test::TempDir folder;
  const auto source = packed_model(folder.path(), family("llama"), {2, 64, quant::Grid::kSignedSym});
  const auto type_of = [&](const std::string& head_type) {
    ExportOptions options;
    options.head_type = head_type;
    gguf_exporter().write(*source, folder / "m.gguf", options);
    const io::GgufFile file(folder / "m.gguf");
    EXPECT_EQ(file.find("token_embd.weight")->type, file.find("output.weight")->type);
    EXPECT_EQ(file.find("output_norm.weight")->type, 0u);
    return find_gguf_type(file.find("output.weight")->type)->name;
  };
  EXPECT_EQ(type_of(""), "Q8_0");
  for (const char* type : {"F16", "BF16", "F32", "Q8_0"}) EXPECT_EQ(type_of(type), type);
  expect_error(ErrorKind::kInvalidArgument, {"Q4_0", "Q8_0"}, [&] { type_of("Q4_0"); });
  expect_error(ErrorKind::kInvalidArgument, {"q8"}, [&] { type_of("q8"); });
}

TEST(GgufExport, FloatModelsKeepTheirDtype) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const test::TempDir folder;
    const TinyModel m = family("biased llama");
    test::write_tiny_model(folder / "hf", m, test::tiny_tensors(m), dtype);
    const auto source = Checkpoint::open(folder / "hf");
    for (const LinearFit& fit : gguf_exporter().fits(*source)) EXPECT_EQ(fit.stored_as, to_string(dtype));
    gguf_exporter().write(*source, folder / "m.gguf", half_heads());
    expect_same_weights(*Checkpoint::open(folder / "m.gguf"), *source);
  }
}

TEST(GgufExport, RopeScalingsComeBack) {
  const nlohmann::ordered_json scalings[] = {
      {{"rope_type", "linear"}, {"factor", 4.0}},
      {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}},
      {{"rope_type", "llama3"},
       {"factor", 8.0},
       {"low_freq_factor", 1.0},
       {"high_freq_factor", 4.0},
       {"original_max_position_embeddings", 8192}}};
  for (const auto& scaling : scalings) {
    SCOPED_TRACE(scaling.dump());
    const test::TempDir folder;
    TinyModel m = family("llama");
    m.changes = {{"rope_theta", 500000.0}, {"rope_scaling", scaling}};
    const auto source = packed_model(folder.path(), m, {2, 64, quant::Grid::kSignedSym});
    gguf_exporter().write(*source, folder / "m.gguf", {});
    const auto found = Checkpoint::open(folder / "m.gguf");
    const model::RopeFrequencies a = model::rope_frequencies(found->config()),
                                 b = model::rope_frequencies(source->config());
    EXPECT_EQ(a.inv_freq, b.inv_freq);
    EXPECT_EQ(a.attention_scaling, b.attention_scaling);
    EXPECT_EQ(io::GgufFile(folder / "m.gguf").find("rope_freqs.weight") != nullptr,
              scaling["rope_type"] == "llama3");
  }
}

TEST(GgufExport, TokenizerMetadataStandsAsGiven) {
  const test::TempDir folder;
  const auto source = packed_model(folder.path(), family("llama"), {2, 64, quant::Grid::kSignedSym});
  ExportOptions options;
  options.tokenizer = {{"tokenizer.ggml.model", std::string("gpt2")},
                       {"tokenizer.ggml.tokens", std::vector<std::string>(257, "x")}};
  expect_error(ErrorKind::kInvalidArgument, {"257", "258"},
               [&] { gguf_exporter().write(*source, folder / "m.gguf", options); });
  EXPECT_FALSE(fs::exists(folder / "m.gguf"));
  std::get<std::vector<std::string>>(options.tokenizer[1].second).push_back("y");
  gguf_exporter().write(*source, folder / "m.gguf", options);
  const io::GgufFile file(folder / "m.gguf");
  EXPECT_EQ(file.get_string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(file.find_strings("tokenizer.ggml.tokens")->size(), 258u);
  EXPECT_EQ(file.get_string("general.name"), "packed");
  EXPECT_EQ(file.get_int("general.file_type"), 41);
  EXPECT_EQ(file.get_int("llama.vocab_size"), 258);
}

TEST(GgufExport, RefusesBeforeAnythingIsWritten) {
  const test::TempDir folder;
  // 96 is no multiple of 64, and at groups of 16 two scales meet in a block of 32.
  TinyModel m = family("llama");
  m.hidden = 96;
  m.heads = 3;
  m.kv_heads = 1;
  const auto source = packed_model(folder.path(), m, {4, 16, quant::Grid::kAsym});
  const std::vector<LinearFit> fits = gguf_exporter().fits(*source);
  ASSERT_EQ(fits.size(), 14u);
  EXPECT_EQ(fits[0].linear, "model.layers.0.self_attn.q_proj");
  EXPECT_FALSE(fits[0].lossless);
  EXPECT_EQ(fits[0].stored_as, "F16");
  EXPECT_NE(fits[0].reason.find("different scales"), std::string::npos) << fits[0].reason;
  expect_error(ErrorKind::kUnsupported,
               {"14 of 14", "model.layers.0.self_attn.q_proj", "different scales", "requantize"},
               [&] { gguf_exporter().write(*source, folder / "m.gguf", {}); });
  EXPECT_FALSE(fs::exists(folder / "m.gguf"));
  ExportOptions options;
  options.requantize = true;
  const ExportReport report = gguf_exporter().write(*source, folder / "m.gguf", options);
  ASSERT_EQ(report.lossy.size(), 14u);
  EXPECT_LT(report.lossy[0].second, 1e-3);
}

TEST(GgufExport, RefusesWhatLlamaCppWouldComputeOtherwise) {
  model::ModelConfig config;
  config.family = "llama";
  config.rope.type = model::RopeConfig::Type::kYarn;
  config.rope.factor = 4;
  config.rope.attention_factor = 1.5;
  expect_error(ErrorKind::kUnsupported, {"attention_factor", "1.5"},
               [&] { gguf_metadata(config, "", "Q2_0"); });
  config.rope.attention_factor = 0.1 * std::log(4.0) + 1;
  EXPECT_NO_THROW(gguf_metadata(config, "", "Q2_0"));
  config.rope.beta_fast = 20;
  expect_error(ErrorKind::kUnsupported, {"beta_fast", "20", "32"},
               [&] { gguf_metadata(config, "", "Q2_0"); });
  config.rope.beta_fast = 32;
  config.family = "qwen3";
  config.attention_bias = true;
  expect_error(ErrorKind::kUnsupported, {"qwen3", "attention_bias"},
               [&] { gguf_metadata(config, "", "Q2_0"); });
}

TEST(Exporters, AreFoundByName) {
  EXPECT_EQ(find_exporter("gguf").name(), "gguf");
  EXPECT_FALSE(find_exporter("gguf").writes_directory());
  EXPECT_FALSE(find_exporter("gguf").clients().empty());
  expect_error(ErrorKind::kInvalidArgument, {"'ggml'", "gguf"}, [] { find_exporter("ggml"); });
}

}  // namespace
}  // namespace crumb::formats
