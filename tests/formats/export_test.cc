// Faces written, opened again and written again: codes and scales byte for byte, and what is refused.
#include <gtest/gtest.h>

#include <fstream>

#include "formats/export_check.h"
#include "formats/exporter.h"
#include "io/json.h"
#include "quant/restate.h"
#include "support/codes_checkpoint.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/tiny_gguf.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using quant::AffineSpec;
using quant::Grid;
using test::CodesCheckpoint;
using test::expect_error;
using test::export_to;
using test::Zeros;

constexpr const char* kUp = "model.layers.1.mlp.up_proj";

/// A float model in F16 and its copies with codes.
class Exports : public ::testing::Test {
 protected:
  void SetUp() override { write_floats({}); }
  void write_floats(const test::TinyModel& model) {
    fs::remove_all(floats());
    test::write_tiny_model(floats(), model, test::tiny_tensors(model), DType::kF16);
  }
  fs::path floats() const { return folder_ / "floats"; }
  CodesCheckpoint source(const AffineSpec& spec, Zeros zeros,
                         const std::map<std::string, AffineSpec>& spec_of = {}) const {
    return {floats(), test::random_linears(floats(), spec, zeros, spec_of)};
  }
  fs::path next() { return folder_ / std::to_string(count_++); }

  test::TempDir folder_;
  int count_ = 0;
};

void expect_same_weights(const Checkpoint& a, const Checkpoint& b) {
  for (std::int64_t block = 0; block < a.config().num_hidden_layers; ++block) {
    for (const model::LinearRole role : model::kLinearRoles) {
      const std::string name = model::linear_name(block, role);
      const auto values = [&](const Checkpoint& of) {
        const auto packed = of.read_packed(name);
        return packed ? quant::dequantize(*packed) : of.read_f32(name + ".weight");
      };
      EXPECT_EQ(values(a), values(b)) << name;
    }
  }
  for (const auto& tensor : model::outer_tensors(a.config()))
    EXPECT_EQ(a.read_f32(tensor.name), b.read_f32(tensor.name)) << tensor.name;
}

void expect_same_codes(const Checkpoint& a, const Checkpoint& b) {
  for (std::int64_t block = 0; block < a.config().num_hidden_layers; ++block) {
    for (const model::LinearRole role : model::kLinearRoles) {
      const std::string name = model::linear_name(block, role);
      const auto x = a.read_packed(name), y = b.read_packed(name);
      ASSERT_EQ(x.has_value(), y.has_value()) << name;
      if (!x) continue;
      EXPECT_EQ(x->codes, y->codes) << name;
      EXPECT_EQ(x->scales, y->scales) << name;
      EXPECT_EQ(x->zero_points, y->zero_points) << name;
      EXPECT_EQ(x->spec.bits, y->spec.bits) << name;
      EXPECT_EQ(x->spec.group_size, y->spec.group_size) << name;
    }
  }
}

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

struct FaceCase {
  const char* name;
  AffineSpec spec;
  Zeros zeros;
};
class EveryFace : public Exports, public ::testing::WithParamInterface<FaceCase> {};
std::vector<FaceCase> face_cases() {
  std::vector<FaceCase> cases;
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {32, 64}) {
      const AffineSpec spec{bits, group, Grid::kAsym};
      for (const char* face : {"gptq", "auto-round", "compressed-tensors-asym", "mlx"}) {
        cases.push_back({face, spec, Zeros::kAny});
        cases.push_back({face, spec, Zeros::kMiddle});
      }
      for (const char* face : {"gptq-v1", "compressed-tensors"}) {
        cases.push_back({face, spec, Zeros::kMiddleTwo});
        cases.push_back({face, spec, Zeros::kMiddle});
      }
      if (bits <= 4) cases.push_back({"awq", spec, Zeros::kAny});
    }
    for (const char* face : {"gptq", "auto-round", "compressed-tensors-asym"})
      cases.push_back({face, {bits, -1, Grid::kAsym}, Zeros::kAny});
    cases.push_back({"mlx", {bits, -1, Grid::kAsym}, Zeros::kMiddle});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Faces, EveryFace, ::testing::ValuesIn(face_cases()), [](const auto& param_info) {
  std::string name = cat(param_info.param.name, "_", quant::scheme_name(param_info.param.spec), "_",
                         static_cast<int>(param_info.param.zeros));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// The first copy may restate a weight (complemented codes, cut groups); from then on nothing moves.
TEST_P(EveryFace, ImportAndExportGiveTheSameBytes) {
  const Exporter& face = find_exporter(GetParam().name);
  const CodesCheckpoint codes = source(GetParam().spec, GetParam().zeros);
  for (const LinearFit& fit : face.fits(codes)) EXPECT_TRUE(fit.lossless) << fit.linear << ": " << fit.reason;

  const fs::path first = next(), own = next(), second = next();
  const ExportReport report = export_to(face, codes, first);
  EXPECT_TRUE(report.lossy.empty());
  const auto opened = Checkpoint::open(first);
  EXPECT_EQ(opened->kind(), CheckpointKind::kPacked);
  EXPECT_EQ(opened->tensor_bytes(), report.tensor_bytes);
  expect_same_weights(codes, *opened);

  export_to(own_directory_exporter(), *opened, own);
  const auto imported = Checkpoint::open(own);
  expect_same_codes(*opened, *imported);
  export_to(face, *imported, second);
  expect_same_codes(*opened, *Checkpoint::open(second));
  EXPECT_EQ(bytes_of(first / "model.safetensors"), bytes_of(second / "model.safetensors"));
  EXPECT_EQ(bytes_of(first / "config.json"), bytes_of(second / "config.json"));
}

TEST_P(EveryFace, OneOtherCodeIsSeen) {  // the negative control of the test above
  auto linears = test::random_linears(floats(), GetParam().spec, GetParam().zeros);
  const CodesCheckpoint codes(floats(), linears);
  linears.at(kUp).codes[77] ^= 1;
  const CodesCheckpoint other(floats(), linears);
  const Exporter& face = find_exporter(GetParam().name);
  const fs::path a = next(), b = next();
  export_to(face, codes, a);
  export_to(face, other, b);
  EXPECT_NE(bytes_of(a / "model.safetensors"), bytes_of(b / "model.safetensors"));
  EXPECT_NE(quant::dequantize(*Checkpoint::open(a)->read_packed(kUp)),
            quant::dequantize(*Checkpoint::open(b)->read_packed(kUp)));
}

TEST_F(Exports, LinearsMayDifferInEveryFace) {
  const std::map<std::string, AffineSpec> spec_of = {
      {kUp, {4, 32, Grid::kAsym}},
      {"model.layers.0.self_attn.q_proj", {3, 64, Grid::kAsym}},
      {"model.layers.0.mlp.down_proj", {2, 128, Grid::kAsym}}};
  auto linears = test::random_linears(floats(), {2, 32, Grid::kAsym}, Zeros::kMiddle, spec_of);
  const std::string as_float = "model.layers.1.self_attn.v_proj";
  linears.erase(as_float);
  const CodesCheckpoint codes(floats(), linears);
  for (const char* name : {"gptq", "gptq-v1", "auto-round", "compressed-tensors", "compressed-tensors-asym",
                           "mlx", "awq", "hf"}) {
    SCOPED_TRACE(name);
    const fs::path folder = next();
    export_to(find_exporter(name), codes, folder);
    const auto back = Checkpoint::open(folder);
    expect_same_weights(codes, *back);
    EXPECT_FALSE(back->packed_spec_of(as_float));
    EXPECT_TRUE(back->has(as_float + ".weight"));
    if (std::string_view(name) == "awq" || std::string_view(name) == "hf") continue;
    EXPECT_EQ(back->packed_spec_of(kUp)->bits, 4);
    EXPECT_EQ(back->packed_spec_of("model.layers.0.mlp.down_proj")->group_size, 128);
    EXPECT_NE(back->describe().find("mixed"), std::string::npos) << back->describe();
    const fs::path own = next();
    export_to(own_directory_exporter(), *back, own);
    expect_same_codes(*back, *Checkpoint::open(own));
  }
}

TEST_F(Exports, FamiliesWithBiasesNormsAndTiedHeads) {
  test::TinyModel qwen2, qwen3;
  qwen2.family = "qwen2";
  qwen2.architecture = "Qwen2ForCausalLM";
  qwen2.qkv_bias = qwen2.tied = true;
  qwen3.family = "qwen3";
  qwen3.architecture = "Qwen3ForCausalLM";
  qwen3.qk_norm = true;
  for (const test::TinyModel& model : {qwen2, qwen3}) {
    write_floats(model);
    const CodesCheckpoint codes = source({2, 64, Grid::kAsym}, Zeros::kMiddleTwo);
    for (const char* name : {"gptq", "gptq-v1", "auto-round", "compressed-tensors", "awq", "mlx", "hf"}) {
      SCOPED_TRACE(cat(model.family, " ", name));
      const fs::path folder = next();
      export_to(find_exporter(name), codes, folder);
      const auto back = Checkpoint::open(folder);
      expect_same_weights(codes, *back);
      EXPECT_EQ(back->has("lm_head.weight"), !model.tied);
      for (const auto& tensor : model::block_tensors(codes.config(), 1)) {
        if (tensor.linear_weight) continue;
        EXPECT_EQ(back->read_f32(tensor.name), codes.read_f32(tensor.name)) << tensor.name;
      }
    }
  }
}

TEST_F(Exports, RefusesWhatDoesNotFitAndNamesIt) {
  auto linears = test::random_linears(floats(), {2, 64, Grid::kAsym}, Zeros::kMiddleTwo);
  linears.at(kUp).zero_points[5] = 3;
  linears.at(kUp).zero_points[6] = 0;
  const CodesCheckpoint codes(floats(), linears);
  for (const char* name : {"compressed-tensors", "gptq-v1"}) {
    const fs::path folder = next();
    expect_error(ErrorKind::kUnsupported,
                 {"1 of 14 linears", kUp, "2 of 128 groups", "0: 1, 3: 1", "--requantize"},
                 [&] { export_to(find_exporter(name), codes, folder); });
    EXPECT_TRUE(fs::is_empty(folder)) << "nothing is written before it is sure";
    for (const LinearFit& fit : find_exporter(name).fits(codes)) EXPECT_EQ(fit.lossless, fit.linear != kUp);
    ExportOptions options;
    options.requantize = true;
    const ExportReport report = export_to(find_exporter(name), codes, folder, options);
    ASSERT_EQ(report.lossy.size(), 1u);
    EXPECT_EQ(report.lossy[0].first.linear, kUp);
    const auto back = Checkpoint::open(folder);
    EXPECT_DOUBLE_EQ(quant::relative_error(linears.at(kUp), *back->read_packed(kUp)), report.lossy[0].second);
    EXPECT_GT(report.lossy[0].second, 0);
    EXPECT_LT(report.lossy[0].second, 0.2);
  }
  EXPECT_NO_THROW(export_to(find_exporter("compressed-tensors-asym"), codes, next()));
}

TEST_F(Exports, RefusesShapesAndGroupsThatClientsDoNotTake) {
  expect_error(ErrorKind::kUnsupported, {"awq", "8-bit codes"}, [&] {
    export_to(find_exporter("awq"), source({8, 64, Grid::kAsym}, Zeros::kAny), next());
  });
  expect_error(ErrorKind::kUnsupported, {"mlx", "groups of 16", "32, 64, 128", "--requantize"}, [&] {
    export_to(find_exporter("mlx"), source({4, 16, Grid::kAsym}, Zeros::kAny), next());
  });
  test::TinyModel narrow;
  narrow.kv_heads = 1;  // k_proj [16, 64]
  write_floats(narrow);
  expect_error(ErrorKind::kUnsupported, {"k_proj", "[16, 64]", "multiple of 32", "--list"}, [&] {
    export_to(find_exporter("gptq"), source({2, 64, Grid::kAsym}, Zeros::kAny), next());
  });
  EXPECT_NO_THROW(export_to(own_directory_exporter(), source({2, 64, Grid::kAsym}, Zeros::kAny), next()))
      << "crumb's own directory takes what dense words hold";
  EXPECT_NO_THROW(export_to(find_exporter("awq"), source({2, 64, Grid::kAsym}, Zeros::kAny), next()));
}

TEST_F(Exports, RefusesModelsOfFloatsButCopiesThemAsSuch) {
  const auto plain = Checkpoint::open(floats());
  for (const char* name : {"gptq", "compressed-tensors", "awq", "mlx"}) {
    expect_error(ErrorKind::kUnsupported, {"no block linear holds codes", "crumb quantize"},
                 [&] { export_to(find_exporter(name), *plain, next()); });
    for (const LinearFit& fit : find_exporter(name).fits(*plain)) EXPECT_FALSE(fit.lossless);
  }
  const fs::path copy = next();
  export_to(find_exporter("hf"), *plain, copy);
  expect_same_weights(*plain, *Checkpoint::open(copy));
}

TEST_F(Exports, HfSaysWhatRoundingCosts) {
  const CodesCheckpoint codes = source({4, 32, Grid::kAsym}, Zeros::kAny);
  expect_error(ErrorKind::kUnsupported, {"hf-f16", "F16 rounds", "F32"},
               [&] { export_to(find_exporter("hf-f16"), codes, next()); });
  ExportOptions options;
  options.requantize = true;
  for (const auto& [name, most] : {std::pair{"hf-f16", 0x1p-11}, {"hf-bf16", 0x1p-8}}) {
    const fs::path folder = next();
    const ExportReport report = export_to(find_exporter(name), codes, folder, options);
    ASSERT_EQ(report.lossy.size(), 14u);
    for (const auto& [fit, error] : report.lossy) {
      EXPECT_GT(error, 0);
      EXPECT_LT(error, most) << "half a unit of the last place";
    }
    const auto back = Checkpoint::open(folder);
    EXPECT_EQ(back->float_dtype(std::string(kUp) + ".weight"),
              std::string_view(name) == "hf-f16" ? DType::kF16 : DType::kBF16);
  }
}

TEST_F(Exports, ShardsHoldTheSameTensors) {
  const CodesCheckpoint codes = source({2, 64, Grid::kAsym}, Zeros::kMiddleTwo);
  ExportOptions options;
  options.shard_bytes = 20'000;
  std::int64_t last = 0, total = 0, calls = 0;
  options.progress = [&](std::int64_t done, std::int64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
    ++calls;
  };
  for (const char* name : {"gptq", "compressed-tensors", "mlx"}) {
    last = calls = 0;
    const fs::path folder = next();
    const ExportReport report = export_to(find_exporter(name), codes, folder, options);
    EXPECT_GT(report.shards, 2);
    EXPECT_TRUE(fs::exists(folder / "model.safetensors.index.json"));
    EXPECT_EQ(last, total);
    EXPECT_EQ(total, report.tensor_bytes);
    EXPECT_GT(calls, 20);
    expect_same_weights(codes, *Checkpoint::open(folder));
  }
}

TEST_F(Exports, CarriesFilesAlongAndReplacesTheQuantizationAlone) {
  std::ofstream(floats() / "generation_config.json") << "{\"top_p\": 0.9}";
  std::ofstream(floats() / "README.md") << "# a card\n";
  std::ofstream(floats() / "config.json")
      << test::tiny_config({.changes = {{"rope_theta", 10000.0}, {"quantization", nullptr}}}).dump(3);
  const CodesCheckpoint codes = source({2, 64, Grid::kAsym}, Zeros::kMiddleTwo);
  const fs::path mlx = next(), gptq = next(), plain = next();
  export_to(find_exporter("mlx"), codes, mlx);
  const auto from_mlx = Checkpoint::open(mlx);
  export_to(find_exporter("gptq"), *from_mlx, gptq);
  for (const char* name : {"generation_config.json", "README.md", "tokenizer.json", "tokenizer_config.json"})
    EXPECT_EQ(bytes_of(gptq / name), bytes_of(floats() / name)) << name;
  const std::string text = bytes_of(gptq / "config.json");
  EXPECT_NE(text.find("\"rope_theta\": 10000.0"), std::string::npos);
  const auto config = io::parse_json(text, "config.json");
  EXPECT_FALSE(config.contains("quantization"));
  EXPECT_EQ(config["quantization_config"]["quant_method"], "gptq");
  EXPECT_EQ(config["quantization_config"]["sym"], false);
  EXPECT_EQ(config["torch_dtype"], "float16");
  export_to(find_exporter("hf"), *from_mlx, plain);
  EXPECT_FALSE(io::parse_json(bytes_of(plain / "config.json"), "x").contains("quantization_config"));
  EXPECT_EQ(Checkpoint::open(plain)->kind(), CheckpointKind::kHuggingFace);
  expect_error(ErrorKind::kInvalidArgument, {"no empty directory"},
               [&] { find_exporter("hf").write(codes, plain, {}); });
}

// Codes of GGUF's grids are codes here too; embeddings of block types keep every value.
TEST_F(Exports, GgufFilesBecomeDirectories) {
  for (const std::uint32_t type : {test::kGgufQ2_0, test::kGgufQ4_0, test::kGgufQ8_0}) {
    const fs::path file = folder_ / cat(type, ".gguf"), own = next(), ct = next();
    test::write_tiny_gguf(file, {}, test::tiny_tensors(), type);
    const auto gguf = Checkpoint::open(file);
    export_to(own_directory_exporter(), *gguf, own);
    export_to(find_exporter("compressed-tensors"), *gguf, ct);
    for (const fs::path& folder : {own, ct}) {
      const auto back = Checkpoint::open(folder);
      EXPECT_EQ(back->kind(), CheckpointKind::kPacked);
      expect_same_weights(*gguf, *back);
      EXPECT_EQ(check_export(*gguf, folder, {}, true).faults, std::vector<std::string>{});
    }
  }
  test::write_tiny_gguf(folder_ / "f16.gguf", {}, test::tiny_tensors(), test::kGgufF16);
  expect_error(ErrorKind::kUnsupported, {"f16.gguf", "holds codes"},
               [&] { export_to(own_directory_exporter(), *Checkpoint::open(folder_ / "f16.gguf"), next()); });
}

TEST_F(Exports, TheCheckSeesOneCodeOneScaleAndOneFloat) {
  auto linears = test::random_linears(floats(), {3, 32, Grid::kAsym}, Zeros::kMiddleTwo);
  const fs::path good = next();
  export_to(find_exporter("compressed-tensors"), CodesCheckpoint(floats(), linears), good);
  const auto faults = [&](const CodesCheckpoint::Linears& of) {
    return check_export(CodesCheckpoint(floats(), of), good, {}, true).faults;
  };
  EXPECT_TRUE(faults(linears).empty());
  auto changed = linears;
  changed.at(kUp).codes[33] ^= 1;
  ASSERT_EQ(faults(changed).size(), 1u);
  EXPECT_NE(faults(changed)[0].find(cat(kUp, ": row 0, group 1: code 1")), std::string::npos)
      << faults(changed)[0];
  changed = linears;
  changed.at(kUp).scales[2] *= 2;
  ASSERT_EQ(faults(changed).size(), 1u);
  EXPECT_NE(faults(changed)[0].find("row 1, group 0: scale"), std::string::npos) << faults(changed)[0];
  test::TinyTensors tensors = test::tiny_tensors();
  tensors.at("model.norm.weight").values[3] = 7;
  test::write_tiny_model(floats(), {}, tensors, DType::kF16);
  ASSERT_EQ(faults(linears).size(), 1u);
  EXPECT_NE(faults(linears)[0].find("model.norm.weight"), std::string::npos);
}

// compressed-tensors' W8A8: a byte a code, and the words that vLLM goes by.
TEST_F(Exports, RoundedActivationsGoWhereTheFormatHasWordsForThem) {
  CodesCheckpoint w8 = source({8, -1, Grid::kAsym}, Zeros::kMiddleTwo);
  w8.activations = {8, 8, true};
  const Exporter& ct = find_exporter("compressed-tensors");
  EXPECT_EQ(ct.lost_activations(*w8.activations), "kv8");
  const fs::path bytes = next();
  export_to(ct, w8, bytes);
  const auto config = io::parse_json(bytes_of(bytes / "config.json"), "config.json")["quantization_config"];
  EXPECT_EQ(config["format"], "int-quantized");
  const auto& inputs = config["config_groups"]["group_0"]["input_activations"];
  EXPECT_EQ(inputs["strategy"], "token");
  EXPECT_EQ(inputs["dynamic"], true);
  const auto back = Checkpoint::open(bytes);
  EXPECT_EQ(*back->activation_scheme(), (quant::ActivationScheme{8, 16, true}));
  expect_same_weights(w8, *back);
  EXPECT_TRUE(check_export(w8, bytes, {}, true).faults.empty());
  const auto stored = back->stored_tensors();
  EXPECT_EQ(std::count_if(stored.begin(), stored.end(), [](const StoredTensor& t) { return t.type == "I8"; }),
            14);

  CodesCheckpoint w4 = source({4, 32, Grid::kAsym}, Zeros::kMiddleTwo);
  w4.activations = {8, 16, true};
  w4.grid_bits = 3;
  const fs::path words = next(), own = next(), plain = next();
  export_to(ct, w4, words);
  EXPECT_EQ(io::parse_json(bytes_of(words / "config.json"), "x")["quantization_config"]["format"],
            "pack-quantized");
  EXPECT_EQ(Checkpoint::open(words)->activation_scheme(), w4.activations);
  export_to(own_directory_exporter(), w4, own);
  EXPECT_EQ(Checkpoint::open(own)->activation_scheme(), w4.activations);
  EXPECT_EQ(Checkpoint::open(own)->weight_bits(), 3);
  // Without a scheme eight bits stay words, as clients of weights alone know them.
  w8.activations.reset();
  export_to(ct, w8, plain);
  EXPECT_EQ(io::parse_json(bytes_of(plain / "config.json"), "x")["quantization_config"]["format"],
            "pack-quantized");
  for (const char* name : {"auto-round", "compressed-tensors-asym", "awq", "mlx", "hf", "gguf", "onnx"})
    EXPECT_EQ(find_exporter(name).lost_activations({4, 4, false}), "a4kv4 asym") << name;
}

TEST_F(Exports, BytesThatAreNoCodesAreRefused) {
  CodesCheckpoint w8 = source({8, -1, Grid::kAsym}, Zeros::kMiddle);
  w8.activations = {8, 16, true};
  const fs::path folder = next();
  export_to(find_exporter("compressed-tensors"), w8, folder);
  std::string config = bytes_of(folder / "config.json");
  const std::size_t at = config.find("\"weights\"");
  config.replace(config.find("\"num_bits\": 8", at), 13, "\"num_bits\": 4");
  std::ofstream(folder / "config.json") << config;
  expect_error(ErrorKind::kCorrupt, {"weight[", "4 bits hold -8 … 7"},
               [&] { Checkpoint::open(folder)->read_packed(kUp); });
}

TEST(Exporters, AreFoundByName) {
  for (const Exporter* exporter : exporters()) {
    EXPECT_EQ(&find_exporter(exporter->name()), exporter);
    EXPECT_FALSE(exporter->clients().empty());
  }
  EXPECT_FALSE(find_exporter("compressed-tensors-asym").note().empty());
  expect_error(ErrorKind::kInvalidArgument, {"'gtpq'", "gptq", "mlx", "awq"}, [] { find_exporter("gtpq"); });
}

}  // namespace
}  // namespace crumb::formats
