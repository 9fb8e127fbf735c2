#include "formats/export/directory.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "base/interrupt.h"
#include "formats/companions.h"
#include "formats/export/refusal.h"
#include "formats/float_parts.h"
#include "formats/input_grid.h"
#include "io/atomic_output.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "quant/restate.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using io::TensorToWrite;

constexpr std::string_view kWhere = "formats.export";

std::int64_t elements_of(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

/// A dtype that keeps the tensor: the source's own; of GGUF's block types, F16 where all values are binary16
/// numbers.
DType copy_dtype(const Checkpoint& source, const std::string& name) {
  const DType dtype = source.float_dtype(name);
  if (source.kind() != CheckpointKind::kGguf || dtype != DType::kF16) return dtype;
  return count_beyond_f16(source, name) == 0 ? DType::kF16 : DType::kF32;
}

TensorToWrite float_copy(const Checkpoint& source, const std::string& name,
                         const std::vector<std::int64_t>& shape) {
  const DType dtype = copy_dtype(source, name);
  return {model::stored_name(source.config(), name), dtype, shape,
          [&source, name, dtype] { return float_bytes(source, name, dtype); }};
}

/// The grid of a linear's inputs, where the source has one.
void add_input_grid(const Checkpoint& source, const LinearPlan& plan, std::vector<TensorToWrite>& tensors) {
  const auto grid = source.input_grid(plan.fit.linear);
  if (!grid) return;
  for (TensorToWrite& tensor :
       input_grid_tensors(plan.stored_name, *grid, source.activation_scheme()->symmetric))
    tensors.push_back(std::move(tensor));
}

/// Packs linears for TensorToWrite::produce, which asks for one part at a time: those of one linear mostly
/// follow each other, so the last one is kept.
class PackedParts {
 public:
  using Pack = std::function<std::vector<std::vector<std::byte>>(std::size_t linear)>;
  explicit PackedParts(Pack pack) : pack_(std::move(pack)) {}
  std::vector<std::byte> take(std::size_t linear, std::size_t part) {
    if (linear != held_ || parts_.empty()) {
      parts_.clear();
      parts_ = pack_(linear);
      held_ = linear;
    }
    return std::move(parts_[part]);
  }

 private:
  Pack pack_;
  std::size_t held_ = 0;
  std::vector<std::vector<std::byte>> parts_;
};

std::string group_words(std::span<const std::int64_t> groups) {
  std::vector<std::string> words;
  for (const std::int64_t group : groups)
    words.push_back(group == -1 ? std::string("whole rows") : std::to_string(group));
  return join(words, ", ");
}

/// The largest group that clients take and that divides the linear's own; 0 where there is none.
std::int64_t fitting_group(std::int64_t group_size, std::int64_t k, std::span<const std::int64_t> groups) {
  if (groups.empty() || std::find(groups.begin(), groups.end(), group_size) != groups.end())
    return group_size;
  const std::int64_t own = group_size == -1 ? k : group_size;
  if (own == k && std::find(groups.begin(), groups.end(), std::int64_t{-1}) != groups.end()) return -1;
  std::int64_t best = 0;
  for (const std::int64_t group : groups)
    if (group > 0 && own % group == 0) best = std::max(best, group);
  return best;
}

/// "12 of 4096 groups have a zero point other than 1 and 2 (0: 5, 3: 7)"
std::string asymmetric_words(const quant::QuantizedLinear& linear, std::int64_t count) {
  const int half = 1 << (linear.spec.bits - 1);
  std::map<int, std::int64_t> others;
  for (const std::uint8_t z : linear.zero_points)
    if (z != half && z != half - 1) ++others[z];
  std::vector<std::string> words;
  for (const auto& [z, times] : others) words.push_back(cat(z, ": ", times));
  return cat(count, " of ", linear.zero_points.size(), " groups have a zero point other than ", half - 1,
             " and ", half, " (", join(words, ", "), ")");
}

}  // namespace

LinearPlan DirectoryExporter::plan_one(const model::ModelConfig& config, const std::string& name,
                                       const quant::QuantizedLinear* codes) const {
  LinearPlan plan;
  if (codes != nullptr) {
    plan.n = codes->n;
    plan.k = codes->k;
    plan.spec = codes->spec;
    this->plan(*codes, plan);
    CRUMB_CHECK(plan.how != LinearPlan::How::kFloats);
  } else {
    plan.fit.stored_as = "floats";
    plan.fit.lossless = true;
  }
  plan.fit.linear = name;
  plan.stored_name = model::stored_name(config, name);
  return plan;
}

std::vector<LinearPlan> DirectoryExporter::plan_all(const Checkpoint& source) const {
  std::vector<LinearPlan> plans;
  for (const std::string& name : block_linears(source.config())) {
    throw_if_interrupted("formats.export");
    const auto codes = codes_of(source, name);
    plans.push_back(plan_one(source.config(), name, codes ? &*codes : nullptr));
  }
  plan_together(source, plans);
  return plans;
}

class DirectoryExporter::Judge final : public FitJudge {
 public:
  Judge(const DirectoryExporter& format, const Checkpoint& source) : format_(format), source_(source) {}
  void add(const std::string& linear, const quant::QuantizedLinear* codes) override {
    plans_.push_back(format_.plan_one(source_.config(), linear, codes));
  }
  std::vector<LinearFit> finish() override {
    format_.plan_together(source_, plans_);
    std::vector<LinearFit> fits;
    bool codes = format_.takes_floats();
    for (LinearPlan& plan : plans_) {
      codes |= plan.how != LinearPlan::How::kFloats;
      fits.push_back(std::move(plan.fit));
    }
    if (codes) return fits;
    for (LinearFit& fit : fits) {
      fit.stored_as.clear();
      fit.lossless = false;
      fit.reason = "the model holds floats; quantize it first";
    }
    return fits;
  }

 private:
  const DirectoryExporter& format_;
  const Checkpoint& source_;
  std::vector<LinearPlan> plans_;
};

std::unique_ptr<FitJudge> DirectoryExporter::judge(const Checkpoint& source) const {
  return std::make_unique<Judge>(*this, source);
}

ExportReport DirectoryExporter::write(const Checkpoint& source, const fs::path& output,
                                      const ExportOptions& options) const {
  if (!fs::is_directory(output) || !fs::is_empty(output))
    fail(ErrorKind::kInvalidArgument, kWhere, output.string(),
         ": is no empty directory; want one to write the model into");
  refuse_structure(source, *this);
  const std::vector<LinearPlan> plans = plan_all(source);
  if (!takes_floats() && std::none_of(plans.begin(), plans.end(), [](const LinearPlan& plan) {
        return plan.how != LinearPlan::How::kFloats;
      }))
    fail(ErrorKind::kUnsupported, kWhere, source.path().string(), ": no block linear holds codes; ", name(),
         " stores quantized weights. Quantize the model first (crumb quantize), or export to hf");
  std::vector<LinearFit> unfit;
  bool nowhere = false;
  for (const LinearPlan& plan : plans) {
    const bool unstorable = plan.how == LinearPlan::How::kNowhere;
    if (!unstorable && (options.requantize || !plan.loses())) continue;
    nowhere |= unstorable;
    unfit.push_back(plan.fit);
  }
  refuse_unfit(source, name(), unfit, plans.size(), nowhere);

  ExportReport report;
  std::map<std::size_t, double> errors;
  const auto packed = std::make_shared<PackedParts>([&](std::size_t i) {
    throw_if_interrupted("formats.export");
    const LinearPlan& plan = plans[i];
    quant::QuantizedLinear linear = *codes_of(source, plan.fit.linear);
    if (!plan.loses()) return pack(stored_form(std::move(linear), plan), plan);
    const quant::QuantizedLinear stored = stored_form(linear, plan);
    errors[i] = loss(linear, stored);
    return pack(stored, plan);
  });

  const auto scheme = source.activation_scheme();
  const bool keeps_input_grids =
      scheme && lost_activations({scheme->bits, 16, scheme->symmetric, scheme->inputs}).empty();
  std::vector<TensorToWrite> tensors;
  const auto add_float = [&](const model::PromisedTensor& tensor) {
    tensors.push_back(float_copy(source, tensor.name, tensor.shape));
  };
  for (const auto& tensor : model::outer_tensors(source.config())) add_float(tensor);
  std::size_t next = 0;
  for (std::int64_t block = 0; block < source.config().num_hidden_layers; ++block) {
    for (const auto& tensor : model::block_tensors(source.config(), block)) {
      if (!tensor.linear_weight) {
        add_float(tensor);
        continue;
      }
      const std::size_t i = next++;
      CRUMB_CHECK(plans[i].fit.linear + ".weight" == tensor.name);
      if (!plans[i].has_codes()) {
        add_float(tensor);
        continue;
      }
      std::size_t part = 0;
      for (LinearPart& known : this->parts(plans[i])) {
        TensorToWrite out{cat(plans[i].stored_name, ".", known.name), known.dtype, known.shape, {}};
        if (known.bytes.empty()) {
          out.produce = [packed, i, part] { return packed->take(i, part); };
        } else {
          out.produce = [bytes = known.bytes] { return bytes; };
        }
        tensors.push_back(std::move(out));
        ++part;
      }
      if (keeps_input_grids) add_input_grid(source, plans[i], tensors);
    }
  }
  for (const TensorToWrite& tensor : tensors)
    report.tensor_bytes += elements_of(tensor.shape) * size_bytes(tensor.dtype);
  io::check_free_space(output, report.tensor_bytes + report.tensor_bytes / 50 + (std::int64_t{64} << 20));
  if (options.progress) {
    std::int64_t& done = report.file_bytes;  // counted anew below
    for (TensorToWrite& tensor : tensors) {
      tensor.produce = [&done, &options, total = report.tensor_bytes, produce = std::move(tensor.produce)] {
        std::vector<std::byte> bytes = produce();
        done += static_cast<std::int64_t>(bytes.size());
        options.progress(done, total);
        return bytes;
      };
    }
  }
  report.shards = io::write_sharded_safetensors(output, std::move(tensors), options.shard_bytes,
                                                {{"format", std::string(metadata_format())}});
  ConfigText config(source.config_json());
  configure(source, plans, config, output);
  io::write_text_atomically(output / "config.json", config.text());
  write_companions(source, output, options.texts);
  const fs::path card = source.path() / "README.md";
  if (fs::is_directory(source.path()) && fs::exists(card) && !fs::exists(output / "README.md"))
    io::write_text_atomically(output / "README.md", io::read_text_file(card));
  report.file_bytes = 0;
  for (const auto& entry : fs::directory_iterator(output))
    report.file_bytes += static_cast<std::int64_t>(fs::file_size(entry.path()));
  for (const auto& [i, error] : errors) report.lossy.emplace_back(plans[i].fit, error);
  return report;
}

double DirectoryExporter::loss(const quant::QuantizedLinear& linear,
                               const quant::QuantizedLinear& stored) const {
  return quant::relative_error(linear, stored);
}

quant::QuantizedLinear stored_form(quant::QuantizedLinear linear, const LinearPlan& plan) {
  if (plan.how == LinearPlan::How::kNearest) {
    const bool same = plan.symmetric && linear.spec.bits == plan.spec.bits &&
                      linear.spec.group_of(linear.k) == plan.spec.group_of(linear.k);
    linear = same ? quant::nearest_symmetric(std::move(linear)) : quant::requantize(linear, plan.spec);
  } else {
    linear = quant::split_groups(std::move(linear), plan.spec.group_of(linear.k));
  }
  if (plan.symmetric && quant::asymmetric_groups(linear) == 0)
    linear = quant::make_symmetric(std::move(linear));
  if (plan.round_scales) {
    for (float& scale : linear.scales) scale = round_to_f16(scale);
  }
  linear = quant::widen(std::move(linear), plan.spec.bits);
  linear.spec = plan.spec;
  return linear;
}

void plan_grid(const quant::QuantizedLinear& linear, bool symmetric, std::span<const std::int64_t> groups,
               std::int64_t n_multiple, std::int64_t k_multiple, LinearPlan& plan) {
  using How = LinearPlan::How;
  plan.fit.stored_as = cat(linear.spec.bits, " bits");
  const auto refuse = [&](How how, std::string reason) {
    plan.how = how;
    plan.fit.lossless = false;
    plan.fit.reason = std::move(reason);
    plan.symmetric = symmetric;  // a new search finds new zero points
    if (how == How::kNowhere) plan.fit.stored_as.clear();
  };
  if (linear.n % n_multiple != 0 || linear.k % k_multiple != 0)
    return refuse(How::kNowhere, cat("[", linear.n, ", ", linear.k, "]: N must be a multiple of ", n_multiple,
                                     " and K of ", k_multiple));
  const std::int64_t group = fitting_group(linear.spec.group_size, linear.k, groups);
  if (group == 0) {
    std::int64_t nearest = 0;
    for (const std::int64_t g : groups)
      if (g > 0 && linear.k % g == 0 && (nearest == 0 || g < nearest)) nearest = g;
    if (nearest == 0)
      return refuse(How::kNowhere,
                    cat("K = ", linear.k, " is divided by no group size of ", group_words(groups)));
    plan.spec.group_size = nearest;
    plan.spec.grid = symmetric ? quant::Grid::kSignedSym : quant::Grid::kAsym;
    return refuse(How::kNearest,
                  cat("groups of ", linear.spec.group_of(linear.k), "; clients take ", group_words(groups)));
  }
  plan.spec.group_size = group;
  const std::int64_t others = quant::asymmetric_groups(linear);
  const int half = 1 << (linear.spec.bits - 1);
  plan.symmetric = symmetric || std::all_of(linear.zero_points.begin(), linear.zero_points.end(),
                                            [&](std::uint8_t z) { return z == half; });
  if (symmetric) plan.spec.grid = quant::Grid::kSignedSym;
  if (symmetric && others > 0) return refuse(How::kNearest, asymmetric_words(linear, others));
  const auto odd =
      std::find_if(linear.scales.begin(), linear.scales.end(), [](float s) { return round_to_f16(s) != s; });
  if (odd != linear.scales.end()) {
    plan.round_scales = true;
    const bool too_large = std::any_of(linear.scales.begin(), linear.scales.end(),
                                       [](float s) { return !std::isfinite(round_to_f16(s)); });
    return refuse(too_large ? How::kNowhere : How::kRounded,
                  cat("scale ", odd - linear.scales.begin(), " is ", *odd,
                      ", no binary16 number, which the format stores"));
  }
  plan.how = How::kExact;
  plan.fit.lossless = true;
}

bool same_codes(const quant::AffineSpec& a, const quant::AffineSpec& b) {
  return a.bits == b.bits && a.group_size == b.group_size;
}

quant::AffineSpec most_common_spec(const std::vector<LinearPlan>& plans) {
  const LinearPlan* best = nullptr;
  std::ptrdiff_t most = 0;
  for (const LinearPlan& plan : plans) {
    if (!plan.has_codes()) continue;
    const auto times = std::count_if(plans.begin(), plans.end(), [&](const LinearPlan& other) {
      return other.has_codes() && same_codes(other.spec, plan.spec);
    });
    if (times > most) {
      most = times;
      best = &plan;
    }
  }
  CRUMB_CHECK(best != nullptr);
  quant::AffineSpec spec = best->spec;
  const bool one_grid = std::all_of(plans.begin(), plans.end(), [&](const LinearPlan& plan) {
    return !plan.has_codes() || plan.spec.grid == spec.grid;
  });
  if (!one_grid) spec.grid = quant::Grid::kAsym;
  return spec;
}

bool all_symmetric(const std::vector<LinearPlan>& plans) {
  return std::all_of(plans.begin(), plans.end(),
                     [](const LinearPlan& plan) { return !plan.has_codes() || plan.symmetric; });
}

}  // namespace crumb::formats
