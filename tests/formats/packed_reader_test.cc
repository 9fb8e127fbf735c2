// Directories of other programs: what their configurations say, and every way in which one is refused.
#include "formats/packed_reader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "formats/gptq.h"
#include "io/json.h"
#include "support/codes_checkpoint.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using quant::AffineSpec;
using quant::Grid;
using test::expect_error;
using test::Zeros;

constexpr const char* kUp = "model.layers.1.mlp.up_proj";

std::optional<AffineSpec> spec_in(const ordered_json& quantization, const char* linear = kUp) {
  return make_method_reader(quantization, "config.json")->specs().of(linear);
}

const ordered_json kAutoRound = {{"quant_method", "auto-round"},
                                 {"packing_format", "auto_round"},
                                 {"bits", 2},
                                 {"group_size", 64},
                                 {"sym", false},
                                 {"data_type", "int"}};
const ordered_json kAwq = {
    {"quant_method", "awq"}, {"bits", 4}, {"group_size", 64}, {"zero_point", true}, {"version", "gemm"}};

ordered_json compressed(const ordered_json& weights = {}, const ordered_json& members = {}) {
  ordered_json w = {
      {"num_bits", 2}, {"type", "int"}, {"symmetric", true}, {"strategy", "group"}, {"group_size", 64}};
  if (!weights.is_null()) w.update(weights);
  ordered_json out = {{"quant_method", "compressed-tensors"},
                      {"format", "pack-quantized"},
                      {"ignore", {"lm_head"}},
                      {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", w}}}}}};
  if (!members.is_null()) out.update(members);
  return out;
}

ordered_json with(ordered_json config, const char* key, const ordered_json& value) {
  config[key] = value;
  return config;
}

void expect_unsupported(const ordered_json& config, std::initializer_list<std::string_view> words,
                        ErrorKind kind = ErrorKind::kUnsupported) {
  expect_error(kind, words, [&] { make_method_reader(config, "config.json"); });
}

TEST(AutoRoundConfig, NamesComeBeforeExpressions) {
  const ordered_json config = with(kAutoRound, "extra_config",
                                   {{".*up_proj", {{"bits", 8}}},
                                    {kUp, {{"bits", 4}, {"group_size", 32}}},
                                    {"layers\\.0\\..*gate", {{"bits", 16}, {"data_type", "fp"}}}});
  EXPECT_EQ(spec_in(config), (AffineSpec{4, 32, Grid::kAsym}));
  EXPECT_EQ(spec_in(config, "model.layers.0.mlp.up_proj"), (AffineSpec{8, 64, Grid::kAsym}));
  EXPECT_EQ(spec_in(config, "model.layers.0.mlp.gate_proj"), std::nullopt);
  EXPECT_EQ(spec_in(config, "model.layers.0.mlp.down_proj"), (AffineSpec{2, 64, Grid::kAsym}));
}

TEST(AutoRoundConfig, RefusesWhatItWouldReadWrongly) {
  expect_unsupported(with(kAutoRound, "packing_format", "auto_round:marlin"),
                     {"config.json", "auto_round:marlin"});
  expect_unsupported(with(kAutoRound, "packing_format", nullptr), {"packing_format"}, ErrorKind::kCorrupt);
  expect_unsupported(with(kAutoRound, "data_type", "mx_fp"), {"mx_fp"});
  expect_unsupported(with(kAutoRound, "act_bits", 8), {"act_bits is 8"});
  expect_unsupported(with(kAutoRound, "bits", 5), {"bits is 5"});
  expect_unsupported(with(kAutoRound, "extra_config", {{kUp, {{"bits", 6}}}}), {"bits is 6"});
  expect_unsupported(with(kAutoRound, "extra_config", {{kUp, 3}}), {"config.json"}, ErrorKind::kCorrupt);
  expect_unsupported(with(kAutoRound, "group_size", 0), {"group_size is 0"}, ErrorKind::kCorrupt);
}

TEST(CompressedTensorsConfig, FindsItsGroupsInTheLibrarysOrder) {
  ordered_json config = compressed();
  config["ignore"] = {"lm_head", "re:.*layers\\.0.*"};
  const auto weights = [](int bits) {
    return ordered_json{{"num_bits", bits}, {"type", "int"}, {"symmetric", false}, {"strategy", "channel"}};
  };
  config["config_groups"]["a"] = {{"targets", {"re:.*mlp.*"}}, {"weights", weights(8)}};
  config["config_groups"]["b"] = {{"targets", {kUp}}, {"weights", weights(4)}};
  EXPECT_EQ(spec_in(config), (AffineSpec{4, -1, Grid::kAsym}));
  EXPECT_EQ(spec_in(config, "model.layers.1.mlp.down_proj"), (AffineSpec{8, -1, Grid::kAsym}));
  EXPECT_EQ(spec_in(config, "model.layers.1.self_attn.q_proj"), (AffineSpec{2, 64, Grid::kSignedSym}));
  EXPECT_EQ(spec_in(config, "model.layers.0.mlp.up_proj"), std::nullopt);
}

TEST(CompressedTensorsConfig, RefusesWhatItWouldReadWrongly) {
  expect_unsupported(compressed({}, {{"format", "float-quantized"}}), {"float-quantized", "pack-quantized"});
  expect_unsupported(compressed({}, {{"kv_cache_scheme", {{"num_bits", 8}}}}), {"kv_cache_scheme"});
  expect_unsupported(compressed({}, {{"transform_config", {{"x", 1}}}}), {"transform_config"});
  expect_unsupported(compressed({}, {{"ignore", {"Linear"}}}), {"every Linear is ignored"});
  expect_unsupported(compressed({}, {{"config_groups", ordered_json::object()}}), {"config_groups"},
                     ErrorKind::kCorrupt);
  expect_unsupported(compressed({{"num_bits", 5}}), {"num_bits is 5"});
  expect_unsupported(compressed({{"type", "float"}}), {"type 'float'"});
  expect_unsupported(compressed({{"strategy", "block"}}), {"strategy 'block'"});
  expect_unsupported(compressed({{"actorder", "group"}}), {"actorder 'group'"});
  expect_unsupported(compressed({{"group_size", 0}}), {"group_size is 0"}, ErrorKind::kCorrupt);
  const auto with_inputs = [](const ordered_json& inputs) {
    ordered_json config = compressed({}, {{"format", "int-quantized"}});
    config["config_groups"]["group_0"]["input_activations"] = inputs;
    return config;
  };
  const ordered_json token = {{"num_bits", 8}, {"strategy", "token"}, {"dynamic", true}};
  const auto changed = [&](std::string_view key, const ordered_json& value) {
    ordered_json inputs = token;
    inputs[std::string(key)] = value;
    return with_inputs(inputs);
  };
  const auto scheme_of = [](const ordered_json& config) {
    return *make_method_reader(config, "config.json")->activation_scheme();
  };
  EXPECT_EQ(scheme_of(with_inputs(token)), (quant::ActivationScheme{8, 16, true}));
  EXPECT_EQ(scheme_of(changed("symmetric", false)), (quant::ActivationScheme{8, 16, false}));
  ordered_json tensor = {{"num_bits", 6}, {"strategy", "tensor"}, {"dynamic", false}, {"symmetric", true}};
  EXPECT_EQ(scheme_of(with_inputs(tensor)),
            (quant::ActivationScheme{6, 16, true, quant::Granularity::kPerTensor}));
  tensor["symmetric"] = false;
  expect_unsupported(with_inputs(tensor), {"input_activations", "not symmetric"});
  expect_unsupported(with_inputs({{"num_bits", 8}}), {"input_activations", "strategy ''"});
  expect_unsupported(changed("dynamic", "local"), {"input_activations", "local"});
  expect_unsupported(changed("strategy", "group"), {"strategy 'group'"});
  expect_unsupported(changed("type", "float"), {"type 'float'"});
  expect_unsupported(changed("num_bits", 16), {"num_bits is 16"});
  ordered_json outputs = compressed();
  outputs["config_groups"]["group_0"]["output_activations"] = token;
  expect_unsupported(outputs, {"output_activations"});
  ordered_json unlike = with_inputs(token);
  unlike["config_groups"]["group_1"] = compressed()["config_groups"]["group_0"];
  expect_unsupported(unlike, {"group 'group_1'", "input_activations"});
  EXPECT_NO_THROW(make_method_reader(compressed({{"actorder", "weight"}}), "config.json"));
}

TEST(AwqConfig, RefusesWhatItWouldReadWrongly) {
  expect_unsupported(with(kAwq, "version", "gemv"), {"version 'gemv'"});
  expect_unsupported(with(kAwq, "bits", 8), {"bits is 8"});
  EXPECT_NO_THROW(make_method_reader(with(kAwq, "version", "GEMM"), "config.json"));
}

TEST(MlxConfig, RefusesOtherModes) {
  const ordered_json good = {{"group_size", 64}, {"bits", 2}, {"mode", "affine"}, {kUp, {{"bits", 4}}}};
  EXPECT_EQ(make_mlx_reader(good, "config.json")->specs().of(kUp), (AffineSpec{4, 64, Grid::kAsym}));
  expect_error(ErrorKind::kUnsupported, {"mode 'mxfp4'"},
               [&] { make_mlx_reader(with(good, "mode", "mxfp4"), "x"); });
  expect_error(ErrorKind::kUnsupported, {"bits is 6"}, [&] { make_mlx_reader(with(good, "bits", 6), "x"); });
}

TEST(PackedReader, NamesTheMethodsThatItKnows) {
  expect_unsupported({{"quant_method", "bitsandbytes"}},
                     {"bitsandbytes", "gptq", "auto-round", "compressed-tensors", "awq", "MLX"});
  EXPECT_EQ(make_packed_reader({{"hidden_size", 3}}, "x"), nullptr);
  EXPECT_EQ(make_packed_reader({{"quantization_config", nullptr}}, "x"), nullptr);
  expect_error(ErrorKind::kCorrupt, {"no JSON object"}, [] {
    make_packed_reader({{"quantization_config", 3}}, "x");
  });
}

/// A directory of one face whose config.json or tensors a test changes.
class OtherDirectory : public ::testing::Test {
 protected:
  void make(const char* face, int bits = 4, Zeros zeros = Zeros::kMiddle) {
    test::write_tiny_model(folder_ / "floats", {}, test::tiny_tensors(), DType::kF16);
    linears_ = test::random_linears(folder_ / "floats", {bits, 32, Grid::kAsym}, zeros);
    test::export_to(find_exporter(face), test::CodesCheckpoint(folder_ / "floats", linears_), path());
  }
  fs::path path() const { return folder_ / "model"; }
  void change_config(const std::function<void(ordered_json&)>& change) const {
    auto config = io::parse_ordered_json(io::read_text_file(path() / "config.json"), "x");
    change(config);
    std::ofstream(path() / "config.json") << config;
    fs::remove(path() / "quantize_config.json");
  }
  /// Tensors as they are, changed: {dtype, shape, bytes}.
  struct Stored {
    DType dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };
  void change_tensors(const std::function<void(std::map<std::string, Stored>&)>& change) const {
    std::map<std::string, Stored> tensors;
    {
      const io::SafetensorsFile file(path() / "model.safetensors");
      for (const auto& t : file.tensors()) {
        const auto bytes = file.bytes(t);
        tensors[t.name] = {t.dtype, t.shape, {bytes.begin(), bytes.end()}};
      }
    }
    change(tensors);
    std::vector<io::TensorToWrite> out;
    for (const auto& [name, t] : tensors) out.push_back({name, t.dtype, t.shape, [&t] { return t.bytes; }});
    io::write_safetensors(path() / "model.safetensors", std::move(out), {{"format", "pt"}});
  }
  void expect_codes() const {
    const auto checkpoint = Checkpoint::open(path());
    for (const auto& [name, linear] : linears_) {
      const auto read = checkpoint->read_packed(name);
      ASSERT_TRUE(read) << name;
      EXPECT_EQ(quant::dequantize(*read), quant::dequantize(linear)) << name;
    }
  }

  test::TempDir folder_;
  test::CodesCheckpoint::Linears linears_;
};

TEST_F(OtherDirectory, AutoRoundsPackings) {
  make("gptq-v1");
  const auto speak = [&](const char* packing) {
    change_config([&](ordered_json& c) {
      c["quantization_config"] =
          with(with(with(kAutoRound, "packing_format", packing), "bits", 4), "group_size", 32);
    });
  };
  speak("auto_round:auto_gptq");
  expect_codes();
  speak("auto_round:gptqmodel");
  EXPECT_NE(quant::dequantize(*Checkpoint::open(path())->read_packed(kUp)),
            quant::dequantize(linears_.at(kUp)))
      << "stored as z - 1 and read as z";
  fs::remove_all(path());
  make("gptq");
  speak("auto_round:gptqmodel");
  expect_codes();
  fs::remove_all(path());
  make("awq");
  speak("auto_round:auto_awq");
  expect_codes();
}

TEST_F(OtherDirectory, GptqWithoutAConfigurationByItsShapes) {
  for (const int bits : {2, 3, 4, 8}) {
    fs::remove_all(folder_ / "floats");
    fs::remove_all(path());
    make("gptq", bits, Zeros::kAny);
    change_config([](ordered_json& c) { c.erase("quantization_config"); });
    expect_error(ErrorKind::kUnsupported, {"qweight", "--gptq-zeros v2"}, [&] { Checkpoint::open(path()); });
    const auto checkpoint = Checkpoint::open(path(), {.gptq_zeros = GptqZeros::kV2});
    EXPECT_EQ(checkpoint->packed_spec(), (AffineSpec{bits, 32, Grid::kAsym}));
    for (const auto& [name, linear] : linears_)
      EXPECT_EQ(quant::dequantize(*checkpoint->read_packed(name)), quant::dequantize(linear)) << name;
  }
  expect_error(ErrorKind::kNotFound, {"no linear", "qweight"},
               [&] { Checkpoint::open(folder_ / "floats", {.gptq_zeros = GptqZeros::kV2}); });
}

TEST_F(OtherDirectory, GptqZerosOfTheUserOverAWrongConfiguration) {
  make("gptq", 4, Zeros::kMiddle);
  change_config([](ordered_json& c) { c["quantization_config"]["checkpoint_format"] = "gptq"; });
  EXPECT_NE(quant::dequantize(*Checkpoint::open(path())->read_packed(kUp)),
            quant::dequantize(linears_.at(kUp)));
  EXPECT_EQ(quant::dequantize(*Checkpoint::open(path(), {.gptq_zeros = GptqZeros::kV2})->read_packed(kUp)),
            quant::dequantize(linears_.at(kUp)));
}

TEST_F(OtherDirectory, SymmetricGptqTellsHowItsZerosAreStored) {
  for (const char* face : {"gptq-v1", "gptq"}) {
    fs::remove_all(folder_ / "floats");
    fs::remove_all(path());
    make(face);  // every zero point 8
    change_config([](ordered_json& c) {
      for (const char* key : {"checkpoint_format", "format"}) c["quantization_config"].erase(key);
      c["quantization_config"]["sym"] = true;
    });
    expect_codes();
  }
  change_tensors([&](std::map<std::string, Stored>& tensors) {
    tensors.at(cat(kUp, ".qzeros")).bytes[0] = std::byte{0x87};
  });
  const auto checkpoint = Checkpoint::open(path());
  expect_error(ErrorKind::kCorrupt, {kUp, "checkpoint_format", "--gptq-zeros"},
               [&] { checkpoint->read_packed(kUp); });
}

TEST_F(OtherDirectory, AutoRoundsGptqDoesNotSayThatItIsV1) {
  make("gptq-v1");
  change_config([](ordered_json& c) {
    ordered_json& q = c["quantization_config"];
    q = {{"quant_method", "gptq"},
         {"bits", 4},
         {"group_size", 32},
         {"sym", false},
         {"provider", "auto-round"}};
  });
  expect_codes();
}

TEST_F(OtherDirectory, SymmetricAwqWithItsEights) {
  make("awq");
  change_config([](ordered_json& c) { c["quantization_config"]["zero_point"] = false; });
  expect_codes();
  change_tensors([&](std::map<std::string, Stored>& tensors) {
    tensors.at(cat(kUp, ".qzeros")).bytes[0] = std::byte{0x87};
  });
  const auto checkpoint = Checkpoint::open(path());
  expect_error(ErrorKind::kUnsupported, {kUp, "zero_point is false"}, [&] { checkpoint->read_packed(kUp); });
}

TEST_F(OtherDirectory, ActOrderIsReadWhereTheGroupsArePlain) {
  make("gptq");
  change_config([](ordered_json& c) { c["quantization_config"]["desc_act"] = true; });
  expect_codes();
  const auto g_idx = cat(kUp, ".g_idx");
  change_tensors([&](std::map<std::string, Stored>& tensors) { tensors.erase(g_idx); });
  expect_error(ErrorKind::kUnsupported, {kUp, "desc_act", "g_idx"}, [&] { Checkpoint::open(path()); });
}

TEST_F(OtherDirectory, RowsOfFloatsAreThoseOfTheWhole) {
  make("mlx");
  find_exporter("gguf").write(test::CodesCheckpoint(folder_ / "floats", linears_), folder_ / "model.gguf",
                              {});
  for (const fs::path& model : {path(), folder_ / "floats", folder_ / "model.gguf"}) {
    const auto checkpoint = Checkpoint::open(model);
    for (const char* name : {"model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                             "model.layers.0.self_attn.q_proj.weight"}) {
      if (!checkpoint->has(name)) continue;
      const std::vector<float> all = checkpoint->read_f32(name);
      const std::int64_t rows = checkpoint->shape(name)[0], columns = std::ssize(all) / rows;
      const std::vector<float> part = checkpoint->read_f32_rows(name, 3, rows - 5);
      EXPECT_EQ(part, std::vector<float>(all.begin() + 3 * columns, all.end() - 2 * columns)) << name;
    }
  }
}

TEST_F(OtherDirectory, CompressedTensorsBeforeTheDenseStream) {
  make("compressed-tensors-asym", 3, Zeros::kAny);
  change_tensors([&](std::map<std::string, Stored>& tensors) {
    for (const auto& [name, linear] : linears_) {
      const std::int64_t groups = linear.spec.groups(linear.k);
      const std::int64_t row = quant::packed_words(linear.k, 3, quant::WordLayout::kPadded),
                         column = quant::packed_words(linear.n, 3, quant::WordLayout::kPadded);
      std::vector<std::uint32_t> packed(static_cast<std::size_t>(linear.n * row)),
          zeros(static_cast<std::size_t>(column * groups));
      quant::pack_rows(linear.codes.data(), linear.n, linear.k, 3, packed.data(), quant::WordLayout::kPadded);
      for (std::int64_t j = 0; j < groups; ++j)
        quant::pack_codes(linear.zero_points.data() + j, groups, linear.n, 3, quant::WordLayout::kPadded,
                          zeros.data() + j, groups);
      tensors[name + ".weight_packed"] = {
          DType::kI32, {linear.n, row}, io::bytes_of(std::span<const std::uint32_t>(packed))};
      tensors[name + ".weight_zero_point"] = {
          DType::kI32, {column, groups}, io::bytes_of(std::span<const std::uint32_t>(zeros))};
    }
  });
  expect_codes();
}

TEST_F(OtherDirectory, ScalesOfBf16AndF32) {
  make("compressed-tensors");
  change_tensors([&](std::map<std::string, Stored>& tensors) {
    for (auto& [name, linear] : linears_) {
      for (float& s : linear.scales) s = bf16_to_float(float_to_bf16(s));
      auto& stored = tensors.at(name + ".weight_scale");
      stored.dtype = DType::kBF16;
      stored.bytes = io::convert_from_f32(linear.scales, DType::kBF16);
    }
  });
  expect_codes();
}

TEST_F(OtherDirectory, MlxsQuantizedEmbedding) {
  make("mlx");
  const auto codes = test::random_codes(258, 64, {4, 32, Grid::kAsym}, Zeros::kAny, 5);
  change_tensors([&](std::map<std::string, Stored>& tensors) {
    std::vector<std::uint32_t> words(258 * 8);
    quant::pack_rows(codes.codes.data(), 258, 64, 4, words.data());
    tensors["model.embed_tokens.weight"] = {
        DType::kU32, {258, 8}, io::bytes_of(std::span<const std::uint32_t>(words))};
    std::vector<float> biases(codes.scales.size(), -0.3f);  // no zero point of ours: floats need none
    tensors["model.embed_tokens.scales"] = {
        DType::kF32, {258, 2}, io::bytes_of(std::span<const float>(codes.scales))};
    tensors["model.embed_tokens.biases"] = {
        DType::kF32, {258, 2}, io::bytes_of(std::span<const float>(biases))};
  });
  expect_error(ErrorKind::kCorrupt, {"model.embed_tokens", "false"}, [&] { Checkpoint::open(path()); });
  change_config([](ordered_json& c) {
    c["quantization"].erase("model.embed_tokens");
    c["quantization_config"].erase("model.embed_tokens");
  });
  expect_codes();
  const auto checkpoint = Checkpoint::open(path());
  EXPECT_EQ(checkpoint->shape("model.embed_tokens.weight"), (std::vector<std::int64_t>{258, 64}));
  const auto values = checkpoint->read_f32("model.embed_tokens.weight");
  ASSERT_EQ(values.size(), 258u * 64);
  for (const std::size_t i : {0u, 70u, 258u * 64 - 1})
    EXPECT_EQ(values[i], codes.scales[i / 32] * static_cast<float>(codes.codes[i]) + -0.3f);
}

TEST_F(OtherDirectory, NamesThePartThatIsMissingOrHasAnotherShape) {
  for (const auto& [face, part] : {std::pair{"compressed-tensors", "weight_scale"},
                                   {"awq", "qzeros"},
                                   {"mlx", "biases"},
                                   {"auto-round", "qzeros"}}) {
    SCOPED_TRACE(face);
    fs::remove_all(path());
    make(face);
    const std::string name = cat(kUp, ".", part);
    change_tensors([&](std::map<std::string, Stored>& tensors) {
      std::swap(tensors.at(name).shape[0], tensors.at(name).shape[1]);
    });
    expect_error(ErrorKind::kCorrupt, {name, "has shape"}, [&] { Checkpoint::open(path()); });
    change_tensors([&](std::map<std::string, Stored>& tensors) { tensors.erase(name); });
    expect_error(ErrorKind::kNotFound, {name, "is missing"}, [&] { Checkpoint::open(path()); });
  }
}

// Whatever a byte becomes, the answer is a model or a sentence.
TEST_F(OtherDirectory, DamagedFilesNeverCrash) {
  SplitMix64 random(1);
  const auto text_of = [](const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  };
  for (const char* face : {"gptq", "auto-round", "compressed-tensors-asym", "awq", "mlx"}) {
    fs::remove_all(path());
    make(face, 4, Zeros::kAny);
    int refused = 0;
    for (int round = 0; round < 150; ++round) {
      const fs::path file = path() / (round % 2 == 0 ? "config.json" : "model.safetensors");
      const std::string good = text_of(file);
      std::string bad = good;
      // Of the weights the header, which the first thousands of bytes are.
      const std::size_t most = std::min<std::size_t>(good.size(), 6000);
      for (int i = 0; i < 1 + round % 3; ++i)
        bad[random.next() % most] = static_cast<char>("0919-{}\",x"[random.next() % 10]);
      if (round % 10 == 9) bad.resize(random.next() % bad.size());
      std::ofstream(file, std::ios::binary) << bad;
      try {
        const auto checkpoint = Checkpoint::open(path());
        for (const auto& [name, linear] : linears_) checkpoint->read_packed(name);
      } catch (const Error& error) {
        EXPECT_EQ(error.what()[0], '[');
        ++refused;
      }
      std::ofstream(file, std::ios::binary) << good;
    }
    EXPECT_GT(refused, 50) << face;
    expect_codes();
  }
}

TEST_F(OtherDirectory, RefusesShapesScalesAndGroupsThatContradict) {
  make("compressed-tensors");
  change_tensors([&](std::map<std::string, Stored>& tensors) {
    tensors[std::string(kUp) + ".weight_g_idx"] = {DType::kI32, {1}, std::vector<std::byte>(4)};
  });
  expect_error(ErrorKind::kUnsupported, {kUp, "act-order"}, [&] { Checkpoint::open(path()); });
  change_tensors([&](std::map<std::string, Stored>& tensors) {
    tensors.erase(std::string(kUp) + ".weight_g_idx");
    tensors.at(std::string(kUp) + ".weight_shape").bytes[0] = std::byte{9};
  });
  expect_error(ErrorKind::kCorrupt, {"weight_shape", "[9, 64]", "[128, 64]"},
               [&] { Checkpoint::open(path()); });
  change_tensors([&](std::map<std::string, Stored>& tensors) {
    tensors.at(std::string(kUp) + ".weight_shape").bytes[0] = std::byte{128};
    tensors.at(std::string(kUp) + ".weight_scale").bytes[1] = std::byte{0x7e};  // a NaN
  });
  const auto checkpoint = Checkpoint::open(path());
  expect_error(ErrorKind::kNumerics, {kUp, "weight_scale", "nan"}, [&] { checkpoint->read_packed(kUp); });
  change_config([](ordered_json& c) { c["quantization_config"]["ignore"].push_back(kUp); });
  expect_error(ErrorKind::kCorrupt, {kUp, "float linear"}, [&] { Checkpoint::open(path()); });
  change_config([](ordered_json& c) {
    c["quantization_config"]["ignore"] = ordered_json::array();
    c["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = 48;
  });
  expect_error(ErrorKind::kInvalidArgument, {"48", "64 inputs"}, [&] { Checkpoint::open(path()); });
}

}  // namespace
}  // namespace crumb::formats
