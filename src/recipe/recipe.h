// A recipe is data: the stages of a quantization run in order, and every number that decides its result, in
// one versioned JSON file. docs/recipes.md says how stages combine, docs/methods/ what each does;
// recipe/schema.h lists every field with its default, range and meaning.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "quant/activation_scheme.h"
#include "quant/spec.h"

namespace crumb::recipe {

/// Rises when the meaning of a field changes; parse_recipe migrates older versions (recipe/migrate.h).
inline constexpr int kRecipeVersion = 2;

/// What a run does, in the order in which a recipe lists it; parameters are in the section of the same name.
enum class Stage {
  kSmoothQuant,  // transforms: activations' range moves into weights
  kAwq,          // transforms: salient channels are scaled up; chooses codes when no later stage does
  kOmniQuant,    // transforms and chooses codes, trained block by block
  kRounding,     // chooses codes: to nearest, ranges by min-max or a search
  kGptq,         // chooses codes: column by column, errors passed on
  kSignRound,    // chooses codes: offsets and ranges trained by the sign of their gradients
  kBlockAp,      // trains weights, scales and zero points of each block
  kE2eQp         // trains the scales of the whole model
};
enum class InitMethod { kMinMax, kAbsMax, kClipSearch, kClipSearchActivation };
enum class RangeRule { kMinMax, kErrorSearch, kClipSearch };  // as methods::gptq::RangeRule
enum class Use { kAuto, kOn, kOff };
enum class Selection { kRandomDocuments, kSequential, kShuffledChunks };  // as data::Selection
enum class StoreDtype { kF32, kBF16 };
enum class Precision { kAuto, kF32, kBF16 };
enum class E2eLoss { kCrossEntropy, kKl };
enum class ScaleDtype { kF16 };

/// What is known about a recipe's result and cost; words only, no behavior.
struct Card {
  std::string description;  // one line for `crumb recipes`
  std::string paper;
  std::string expects;
  std::string cost;
};

/// The grid that block linears are brought to.
struct Weights {
  int bits = 2;                  // 2, 3, 4, 6, 8
  std::int64_t group_size = 64;  // weights along K sharing one scale; -1: per output channel
  quant::Grid grid = quant::Grid::kAsym;

  quant::AffineSpec spec() const { return {bits, group_size, grid}; }
  /// What files hold: 6-bit codes in fields of 8 bits, whose grid then has no rule of its own.
  quant::AffineSpec stored_spec() const {
    return bits == 6 ? quant::AffineSpec{8, group_size, quant::Grid::kAsym} : spec();
  }
};

/// What the model does with its activations when it runs. Recorded in the output, so that `crumb eval`
/// simulates it and engines do it.
struct Activations {
  int bits = 16;             // of the inputs of all block linears; 2 to 8, 16: off
  int kv_bits = 16;          // of keys and values as cached; then queries have `bits`. 16: off
  bool symmetric = false;    // no zero point
  bool allow_plain = false;  // also where no stage prepares the model for it
  quant::Granularity granularity = quant::Granularity::kPerToken;  // of the inputs of linears

  quant::ActivationScheme scheme() const { return {bits, kv_bits, symmetric, granularity}; }
  bool on() const { return scheme().rounds(); }
};

/// What the stages that train a block make small: the mean squared error of its output.
struct Objective {
  /// A token whose output has more than token_cap times the median energy of its batch counts as if it had that
  /// much; 0: plain, as the papers' methods have it.
  double token_cap = 0;
};

/// SmoothQuant's transformation.
struct SmoothQuant {
  double alpha = 0.5;  // how much of the difficulty moves from activations into weights
  bool value_output = false, up_down = false;  // sites beyond the paper's two, which begin with a norm
};

/// AWQ: scales of channels, and ranges of weights where it chooses the codes.
struct Awq {
  int steps = 20;               // ratios tried
  bool duo = true;              // divide by the weights' own mean
  Use value_output = Use::kAuto;  // the site v -> o; auto: where each value head has columns of o of its own
  bool up_down = true;
  bool clip = true;             // search ranges (q and k keep theirs)
  int clip_steps = 20;
  double clip_max_shrink = 0.5;
};

/// OmniQuant: learned clipping (lwc) and learned equivalent transformation (let).
struct OmniQuant {
  bool lwc = true, let = false;
  std::int64_t epochs = 5;
  std::int64_t batch = 1;
  double lwc_lr = 1e-2, let_lr = 5e-3;
  bool search_start = true;  // clipping starts at searched ratios; false: at 0.982 of the range, as the authors'
  double alpha = 0.5;        // start of the transformation
  bool up_down = false;
  bool shift = false;
  bool aug_loss = false;
  bool shuffle = true, keep_best = true;
  std::uint64_t seed = 2;
};

/// Codes to nearest; where Block-AP starts from.
struct Rounding {
  InitMethod method = InitMethod::kClipSearchActivation;
  double min_ratio = 0.30;  // smallest clipping ratio that a search tries; the largest is 1 (min-max)
  int steps = 25;           // ratios tried, evenly spaced from min_ratio to 1, both included
};

/// GPTQ, block by block on the quantized prefix.
struct Gptq {
  double damping = 0.01;  // of the mean of H's diagonal
  bool act_order = true, static_groups = true;
  bool sequential = true;  // q, k, v; o; gate, up; down, each with inputs made by the quantized ones before it
  RangeRule range = RangeRule::kMinMax;
  std::int64_t block_size = 128;
};

/// SignRound.
struct SignRound {
  std::int64_t iterations = 200;
  std::int64_t batch = 8;
  double lr = 0;        // 0: 1 / iterations
  double range_lr = 0;  // 0: as lr
  bool tune_ranges = true;
  bool search_start = false;  // ranges start at searched ratios, not at minimum and maximum
  std::uint64_t seed = 42;
};

/// The tokens that the stages of a block see.
struct Calibration {
  std::string corpus = "self";  // as --calib, which overrides it: a file, "self", "wikitext2", "c4", "redpajama"
  std::int64_t samples = 64;
  std::int64_t validation_samples = 4;
  std::int64_t tokens = 128;  // per window
  std::uint64_t seed = 2;
  Selection selection = Selection::kRandomDocuments;
};

/// Block-AP: all parameters of one block against its full-precision output.
struct BlockAp {
  std::int64_t epochs = 2;
  std::int64_t batch = 2;  // windows per step; divides calibration.samples and .validation_samples
  double weight_lr = 2e-4;
  double quant_lr = 1e-3;
  double min_lr_factor = 20;  // the schedule ends at lr / min_lr_factor
  double weight_decay = 0;
  bool train_norms = true;
  bool train_zero_points = true;
  StoreDtype store_dtype = StoreDtype::kF32;  // activation streams; never f16, which massive activations overflow
  Precision precision = Precision::kAuto;     // of matrix products; auto: bf16 where the hardware has it, else f32

  std::int64_t steps(const Calibration& calibration) const { return epochs * calibration.samples / batch; }
};

/// E2E-QP: the scales of all linears, end to end.
struct E2eQp {
  double lr = 2e-4;
  std::int64_t steps = 24;    // optimizer steps; 0: one pass over `samples`
  std::int64_t samples = 24;  // windows; visited again from the first when the steps need more
  std::int64_t tokens = 256;  // per window
  std::int64_t batch = 1;     // windows per micro-batch
  std::int64_t accumulation = 1;  // micro-batches per optimizer step
  std::uint64_t seed = 42;        // window selection and visiting order
  Selection selection = Selection::kShuffledChunks;
  double warmup_ratio = 0.03;  // ceil(ratio * steps) steps from 0 to lr, then cosine to 0
  double weight_decay = 0;
  double max_grad_norm = 0.3;  // 0: no clipping
  E2eLoss loss = E2eLoss::kKl;
  Precision precision = Precision::kAuto;

  /// Optimizer steps after `steps == 0` is resolved.
  std::int64_t resolved_steps() const { return steps > 0 ? steps : samples / (batch * accumulation); }
};

/// What is written.
struct Output {
  ScaleDtype scale_dtype = ScaleDtype::kF16;  // applied before the final codes are chosen
  std::int64_t shard_bytes = 4'000'000'000;
  /// At which the engine keeps embedding and head: 8, 6 or 4, or 0 for the floats that are written in any case. Recorded beside the grid.
  int head_bits = 8;
};

/// Speed and memory only: no field here may change a code.
struct Performance {
  int threads = 0;                              // 0: every core this process may use; --threads overrides it
  std::int64_t activation_ram_limit_bytes = 0;  // streams above it go to mapped files; 0: an eighth of the memory available at the start
  bool activation_checkpointing = true;         // E2E-QP: recompute a block's activations in the backward pass
  std::int64_t logits_chunk_tokens = 256;       // rows of logits that exist at once
};

struct Recipe {
  std::string name;  // of the file or the built-in recipe; empty for one made in code
  Card card;
  std::vector<Stage> stages = {Stage::kRounding, Stage::kBlockAp, Stage::kE2eQp};
  Weights weights;
  Activations activations;
  Objective objective;
  SmoothQuant smoothquant;
  Awq awq;
  OmniQuant omniquant;
  Rounding rounding;
  Gptq gptq;
  SignRound signround;
  Calibration calibration;
  BlockAp block_ap;
  E2eQp e2e_qp;
  Output output;
  Performance performance;

  bool has(Stage stage) const;
  /// The stage that chooses codes. Throws InvalidArgument when there is none.
  Stage chooser() const;
  /// Whether a stage changes norms, weights or biases before codes are chosen.
  bool transforms() const;
  /// The last stage that works on blocks: what stands before E2E-QP.
  Stage last_block_stage() const;
  /// Whether any stage reads the activations of calibration windows.
  bool reads_activations() const;
};

/// `text` as JSON; absent fields keep their defaults. Throws InvalidArgument for an unknown key (with the nearest name), a wrong type, a value
/// out of range, a recipe_version above kRecipeVersion; older versions are migrated (none given: the newest); Corrupt for text that is not JSON. `subject` is named in the message.
Recipe parse_recipe(std::string_view text, std::string_view subject);

/// Every field, defaults included, in schema order; parse_recipe(to_json(r).dump()) gives r back, doubles to the last bit.
nlohmann::ordered_json to_json(const Recipe& recipe);

/// to_json without `name`, `card` and `performance`: what must be equal for a run to be resumed.
nlohmann::ordered_json behavior_json(const Recipe& recipe);

/// One "path=value" of --set, for example "block_ap.weight_lr=1e-5" or "stages=gptq,block_ap". Throws InvalidArgument like parse_recipe.
void set_field(Recipe& recipe, std::string_view assignment);

/// Checks that fields agree with each other (batch divides samples, ...) and stages with their order and
/// with the activation bits: docs/recipes.md has the rules. Throws InvalidArgument naming both fields.
void check_recipe(const Recipe& recipe);

/// A built-in name ("efficientqat-w2g64") or a path to a .json file, then the assignments in order, then check_recipe.
/// Throws NotFound with the nearest built-in name.
Recipe load_recipe(const std::string& name_or_path, const std::vector<std::string>& assignments = {});

/// Built-in recipes, the default first.
inline constexpr std::string_view kDefaultRecipe = "efficientqat-w2g64";
std::vector<std::string> built_in_names();
/// Its JSON text as it lies in recipes/; throws NotFound.
std::string_view built_in_text(std::string_view name);

std::string_view to_string(Stage value) noexcept;                  // "smoothquant", ... "e2e_qp"
std::string_view to_string(InitMethod value) noexcept;             // "minmax", "absmax", "clip_search", "clip_search_activation"
std::string_view to_string(Selection value) noexcept;              // "random_documents", "sequential", "shuffled_chunks"
std::string_view to_string(StoreDtype value) noexcept;             // "f32", "bf16"
std::string_view to_string(Precision value) noexcept;              // "auto", "f32", "bf16"
std::string_view to_string(E2eLoss value) noexcept;                // "ce", "kl"
std::string_view to_string(ScaleDtype value) noexcept;             // "f16"

}  // namespace crumb::recipe
