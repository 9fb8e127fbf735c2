#include "formats/gguf_export.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "base/interrupt.h"
#include "formats/block_codes.h"
#include "formats/export/refusal.h"
#include "formats/float_parts.h"
#include "formats/gguf_metadata.h"
#include "formats/gguf_pack.h"
#include "formats/gguf_rows.h"
#include "model/family.h"
#include "quant/affine.h"
#include "quant/relative_error.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using quant::QuantizedLinear;

constexpr std::string_view kWhere = "formats.gguf_export";

const GgufType& type_named(std::string_view name) {
  const GgufType* const type = find_gguf_type(name);
  CRUMB_CHECK(type != nullptr);
  return *type;
}

std::string linear_of(std::string_view weight) {
  return std::string(weight.substr(0, weight.size() - std::string_view(".weight").size()));
}

const GgufType& float_type(DType dtype) {
  return type_named(dtype == DType::kBF16 ? "BF16" : dtype == DType::kF16 ? "F16" : "F32");
}

/// What one block linear becomes.
struct LinearPlan {
  std::string linear;
  const GgufType* type = nullptr;  // nullptr: refused
  bool lossless = false;
  std::string reason;
  bool codes = true;  // of the source; else floats
};

LinearPlan plan_floats(const Checkpoint& source, const std::string& linear, const std::string& weight) {
  const GgufType& type = float_type(source.float_dtype(weight));
  LinearPlan plan{linear, &type, true, "", false};
  // A GGUF block type without a grid of ours is read as floats that F16 may not hold.
  if (source.kind() != CheckpointKind::kGguf || type.name != "F16") return plan;
  if (const std::int64_t rounded = count_beyond_f16(source, weight); rounded > 0) {
    const std::vector<std::int64_t> shape = source.shape(weight);
    plan.lossless = false;
    plan.reason = cat("F16: ", rounded, " of ", shape[0] * shape[1], " weights are no binary16 numbers");
  }
  return plan;
}

LinearPlan plan_linear(const Checkpoint& source, const std::string& linear, const QuantizedLinear* codes,
                       bool requantize) {
  if (codes == nullptr) return plan_floats(source, linear, linear + ".weight");
  quant::check_quantized_linear(*codes, linear);
  const GgufFit exact = choose_gguf_type(*codes);
  if (exact.type != nullptr && !requantize) return {linear, exact.type, true, exact.reason};
  const GgufFit near = choose_gguf_type(*codes, true);
  const auto bytes = [&](const GgufFit& fit) { return gguf_tensor_bytes(*fit.type, codes->k, codes->n); };
  if (exact.type != nullptr && bytes(exact) <= bytes(near)) return {linear, exact.type, true, exact.reason};
  return {linear, near.type, false, near.reason};
}

std::vector<model::PromisedTensor> linear_tensors(const model::ModelConfig& config) {
  std::vector<model::PromisedTensor> out;
  for (std::int64_t block = 0; block < config.num_hidden_layers; ++block) {
    for (model::PromisedTensor& tensor : model::block_tensors(config, block)) {
      if (tensor.linear_weight) out.push_back(std::move(tensor));
    }
  }
  return out;
}

double packing_error(const std::vector<float>& w, const GgufType& type, std::span<const std::byte> bytes) {
  std::vector<float> stored(w.size());
  dequantize_gguf(type, bytes, stored);
  return quant::relative_error(w, stored);
}

/// One export: the file's tensors, in order.
class GgufFileOf {
 public:
  GgufFileOf(const Checkpoint& source, const ExportOptions& options)
      : source_(source), config_(source.config()), options_(options) {
    const model::Family* const family = model::find_family_by_model_type(config_.family);
    CRUMB_CHECK(family != nullptr);
    permutes_ = family->gguf_permutes_qk;
  }

  void plan() {
    for (const model::PromisedTensor& tensor : linear_tensors(config_)) {
      throw_if_interrupted("formats.export");
      const std::string linear = linear_of(tensor.name);
      const std::optional<QuantizedLinear> codes = codes_of(source_, linear);
      plans_.push_back(plan_linear(source_, linear, codes ? &*codes : nullptr, options_.requantize));
    }
    std::vector<LinearFit> unfit;
    bool nowhere = false;
    for (const LinearPlan& plan : plans_) {
      if (plan.lossless || (options_.requantize && plan.type != nullptr)) continue;
      nowhere |= plan.type == nullptr;
      unfit.push_back({plan.linear, "", false, plan.reason});
    }
    refuse_unfit(source_, "gguf", unfit, plans_.size(), nowhere);
  }

  ExportReport write(const fs::path& output) {
    GgufMetadata metadata = gguf_metadata(config_, source_name(), main_type());
    add_tokenizer(metadata);
    for (const model::PromisedTensor& tensor : model::outer_tensors(config_)) add_floats(tensor);
    if (std::vector<float> divisors = gguf_rope_divisors(config_); !divisors.empty()) {
      const GgufType& f32 = type_named("F32");
      const auto count = static_cast<std::int64_t>(divisors.size());
      add("rope_freqs.weight", {count}, f32, [divisors = std::move(divisors), &f32, count] {
        return pack_gguf_floats(divisors, count, f32, "rope_freqs.weight");
      });
    }
    auto plan = plans_.begin();
    for (std::int64_t block = 0; block < config_.num_hidden_layers; ++block) {
      for (const model::PromisedTensor& tensor : model::block_tensors(config_, block)) {
        if (tensor.linear_weight) {
          add_linear(tensor, *plan++);
        } else {
          add_floats(tensor);
        }
      }
    }
    ExportReport report;
    report.shards = 1;
    for (const io::GgufTensorToWrite& tensor : tensors_)
      report.tensor_bytes += static_cast<std::int64_t>(tensor.size);
    report_ = &report;
    io::write_gguf(output, metadata, std::move(tensors_), options_.progress);
    report.file_bytes = static_cast<std::int64_t>(fs::file_size(output));
    return report;
  }

 private:
  std::string source_name() const {
    const fs::path path = fs::absolute(source_.path()).lexically_normal();
    return (path.has_filename() ? path : path.parent_path()).stem().string();
  }

  /// Of most weights among the block linears.
  std::string_view main_type() const {
    std::map<std::string_view, std::int64_t> weights;
    const std::vector<model::PromisedTensor> linears = linear_tensors(config_);
    for (std::size_t i = 0; i < plans_.size(); ++i)
      weights[plans_[i].type->name] += linears[i].shape[0] * linears[i].shape[1];
    return std::max_element(weights.begin(), weights.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }

  void add_tokenizer(GgufMetadata& metadata) const {
    const auto number = [&](const char* key, std::int64_t value) {
      if (value >= 0) metadata.emplace_back(key, static_cast<std::uint64_t>(value));
    };
    if (options_.tokenizer.empty()) {
      metadata.emplace_back("tokenizer.ggml.model", std::string("no_vocab"));
      number("tokenizer.ggml.bos_token_id", config_.bos_token_id);
      if (!config_.eos_token_ids.empty())
        number("tokenizer.ggml.eos_token_id", config_.eos_token_ids.front());
      return;
    }
    for (const auto& [key, value] : options_.tokenizer) {
      const auto* const tokens = std::get_if<std::vector<std::string>>(&value);
      if (key == "tokenizer.ggml.tokens" && tokens != nullptr &&
          static_cast<std::int64_t>(tokens->size()) != config_.vocab_size) {
        fail(ErrorKind::kInvalidArgument, kWhere, "the tokenizer has ", tokens->size(), " tokens, the model ",
             config_.vocab_size, " rows; expected as many; llama.cpp refuses the file otherwise");
      }
      metadata.emplace_back(key, value);
    }
  }

  /// Of a tensor whose rows llama.cpp keeps in another order; else 0.
  std::int64_t permuted_heads(std::string_view name) const {
    if (!permutes_) return 0;
    if (name.find(".q_proj.") != std::string_view::npos) return config_.num_attention_heads;
    return name.find(".k_proj.") != std::string_view::npos ? config_.num_key_value_heads : 0;
  }

  std::vector<float> read_rows(const model::PromisedTensor& tensor) const {
    std::vector<float> values = source_.read_f32(tensor.name);
    if (const std::int64_t heads = permuted_heads(tensor.name); heads > 0)
      to_gguf_rows(values, heads, config_.head_dim, tensor.shape.size() == 2 ? tensor.shape[1] : 1);
    return values;
  }

  QuantizedLinear read_linear_rows(const model::PromisedTensor& tensor) const {
    std::optional<QuantizedLinear> linear = codes_of(source_, linear_of(tensor.name));
    CRUMB_CHECK(linear.has_value());
    if (const std::int64_t heads = permuted_heads(tensor.name); heads > 0) {
      const std::int64_t groups = linear->spec.groups(linear->k);
      to_gguf_rows(linear->codes, heads, config_.head_dim, linear->k);
      to_gguf_rows(linear->scales, heads, config_.head_dim, groups);
      to_gguf_rows(linear->zero_points, heads, config_.head_dim, groups);
    }
    return std::move(*linear);
  }

  void add(const std::string& name, const std::vector<std::int64_t>& shape, const GgufType& type,
           std::function<std::vector<std::byte>()> produce) {
    const std::int64_t rows = shape.size() == 2 ? shape[0] : 1;
    tensors_.emplace_back(name, std::vector<std::int64_t>(shape.rbegin(), shape.rend()), type.id,
                          static_cast<std::uint64_t>(gguf_tensor_bytes(type, shape.back(), rows)),
                          std::move(produce));
  }

  const GgufType& head_type(const model::PromisedTensor& tensor) const {
    if (!options_.head_type.empty()) {
      const GgufType* const type = find_gguf_type(options_.head_type);
      const bool known = type != nullptr && (type->block_elements == 1 || type->name == "Q8_0");
      if (!known || tensor.shape.back() % type->block_elements != 0) {
        fail(ErrorKind::kInvalidArgument, kWhere, "head type '", options_.head_type, "' for ", tensor.name,
             " ", shape_string(tensor.shape),
             "; expected F16, BF16, F32, or Q8_0 where 32 divides the columns");
      }
      return *type;
    }
    if (source_.head_bits().value_or(8) != 0 && tensor.shape.back() % 32 == 0) return type_named("Q8_0");
    return type_named(source_.float_dtype(tensor.name) == DType::kBF16 ? "BF16" : "F16");
  }

  /// A tensor that is no linear of a block: matrices are embedding and head.
  void add_floats(const model::PromisedTensor& tensor) {
    const GgufType& type = tensor.shape.size() == 2 ? head_type(tensor) : type_named("F32");
    add(model::gguf_name_from_hf(tensor.name), tensor.shape, type, [this, tensor, &type] {
      if (permuted_heads(tensor.name) > 0)
        return pack_gguf_floats(read_rows(tensor), tensor.shape.back(), type, tensor.name);
      std::vector<std::byte> out;
      const std::int64_t rows = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
      out.reserve(static_cast<std::size_t>(gguf_tensor_bytes(type, tensor.shape.back(), rows)));
      for_each_float_part(source_, tensor.name, [&](std::int64_t first, std::span<const float> values) {
        const std::int64_t k = tensor.shape.size() == 2 ? tensor.shape[1] : std::ssize(values);
        const std::vector<std::byte> part = pack_gguf_floats(values, k, type, tensor.name, first);
        out.insert(out.end(), part.begin(), part.end());
      });
      return out;
    });
  }

  void add_linear(const model::PromisedTensor& tensor, const LinearPlan& plan) {
    add(model::gguf_name_from_hf(tensor.name), tensor.shape, *plan.type, [this, tensor, &plan] {
      std::vector<float> w;
      std::vector<std::byte> bytes;
      if (plan.codes) {
        const QuantizedLinear linear = read_linear_rows(tensor);
        bytes = pack_gguf(linear, *plan.type, plan.linear);
        if (!plan.lossless) w = quant::dequantize(linear);
      } else {
        w = read_rows(tensor);
        bytes = pack_gguf_floats(w, tensor.shape.back(), *plan.type, tensor.name);
      }
      if (!plan.lossless) {
        report_->lossy.emplace_back(LinearFit{plan.linear, std::string(plan.type->name), false, plan.reason},
                                    packing_error(w, *plan.type, bytes));
      }
      return bytes;
    });
  }

  const Checkpoint& source_;
  const model::ModelConfig& config_;
  const ExportOptions& options_;
  bool permutes_ = false;
  std::vector<LinearPlan> plans_;
  std::vector<io::GgufTensorToWrite> tensors_;
  ExportReport* report_ = nullptr;
};

class GgufJudge final : public FitJudge {
 public:
  explicit GgufJudge(const Checkpoint& source) : source_(source) {}
  void add(const std::string& linear, const QuantizedLinear* codes) override {
    LinearPlan plan = plan_linear(source_, linear, codes, false);
    fits_.push_back({linear, plan.type == nullptr ? "" : std::string(plan.type->name), plan.lossless,
                     std::move(plan.reason)});
  }
  std::vector<LinearFit> finish() override { return std::move(fits_); }

 private:
  const Checkpoint& source_;
  std::vector<LinearFit> fits_;
};

class GgufExporter final : public Exporter {
 public:
  std::string_view name() const override { return "gguf"; }
  std::string_view clients() const override { return "llama.cpp"; }
  bool writes_directory() const override { return false; }
  std::string unfit_structure(const model::ModelConfig& config) const override {
    return config.family == "opt" ? "llama.cpp has no OPT architecture" : "";
  }

  std::unique_ptr<FitJudge> judge(const Checkpoint& source) const override {
    return std::make_unique<GgufJudge>(source);
  }

  ExportReport write(const Checkpoint& source, const fs::path& output,
                     const ExportOptions& options) const override {
    refuse_structure(source, *this);
    GgufFileOf file(source, options);
    file.plan();
    return file.write(output);
  }
};

}  // namespace

const Exporter& gguf_exporter() {
  static const GgufExporter exporter;
  return exporter;
}

}  // namespace crumb::formats
