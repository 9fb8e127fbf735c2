#include "recipe/schema.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "recipe/enums.h"

namespace crumb::recipe {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kExactIntegers =
    9007199254740992.0;  // 2^53: above it a double no longer tells neighbors apart

template <class Section, class T>
Field make(const char* path, FieldType type, Section Recipe::*section, T Section::*member, const char* doc) {
  Field field;
  field.path = path;
  field.type = type;
  field.doc = doc;
  field.get = [=](const Recipe& recipe) { return nlohmann::json(recipe.*section.*member); };
  field.set = [=](Recipe& recipe, const nlohmann::json& value) { recipe.*section.*member = value.get<T>(); };
  return field;
}

template <class Section, class T>
Field number(const char* path, Section Recipe::*section, T Section::*member, double minimum, double maximum,
             const char* doc) {
  Field field =
      make(path, std::is_integral_v<T> ? FieldType::kInteger : FieldType::kNumber, section, member, doc);
  field.minimum = minimum;
  field.maximum = maximum;
  return field;
}

template <class Section>
Field boolean(const char* path, Section Recipe::*section, bool Section::*member, const char* doc) {
  return make(path, FieldType::kBoolean, section, member, doc);
}

template <class Section>
Field text(const char* path, Section Recipe::*section, std::string Section::*member, const char* doc) {
  return make(path, FieldType::kText, section, member, doc);
}

template <class Section, class Enum>
Field choice(const char* path, Section Recipe::*section, Enum Section::*member, const char* doc) {
  Field field;
  field.path = path;
  field.type = FieldType::kChoice;
  field.doc = doc;
  for (const auto& [value, word] : EnumWords<Enum>::kAll) field.choices.emplace_back(word);
  field.get = [=](const Recipe& recipe) {
    return nlohmann::json(std::string(word_of(recipe.*section.*member)));
  };
  field.set = [=](Recipe& recipe, const nlohmann::json& value) {
    const auto& wanted = value.get_ref<const std::string&>();
    for (const auto& [candidate, word] : EnumWords<Enum>::kAll) {
      if (word == wanted) recipe.*section.*member = candidate;
    }
  };
  return field;
}

Field stage_list() {
  Field field;
  field.path = "stages";
  field.type = FieldType::kList;
  field.doc = "what is done, in this order; each with the section of its name";
  for (const auto& [value, word] : EnumWords<Stage>::kAll) field.choices.emplace_back(word);
  field.get = [](const Recipe& recipe) {
    nlohmann::json list = nlohmann::json::array();
    for (const Stage stage : recipe.stages) list.push_back(std::string(word_of(stage)));
    return list;
  };
  field.set = [](Recipe& recipe, const nlohmann::json& value) {
    recipe.stages.clear();
    for (const auto& item : value) {
      for (const auto& [stage, word] : EnumWords<Stage>::kAll) {
        if (word == item.get_ref<const std::string&>()) recipe.stages.push_back(stage);
      }
    }
  };
  return field;
}

std::vector<Field> make_fields() {
  using R = Recipe;
  std::vector<Field> f;
  f.push_back(text("card.description", &R::card, &Card::description, "what this recipe is for, in one line"));
  f.push_back(text("card.paper", &R::card, &Card::paper, "the method's source"));
  f.push_back(text("card.expects", &R::card, &Card::expects, "measured results, or that there are none yet"));
  f.push_back(
      text("card.cost", &R::card, &Card::cost, "measured time and memory, or that there are none yet"));

  f.push_back(stage_list());

  Field bits = number("weights.bits", &R::weights, &Weights::bits, 2, 8,
                      "bits of a code of the block linears; 6 are stored in fields of 8");
  bits.choices = {"2", "3", "4", "6", "8"};
  f.push_back(std::move(bits));
  f.push_back(number("weights.group_size", &R::weights, &Weights::group_size, -1, 1 << 30,
                     "weights along K that share one scale and zero point; must divide every linear's K; -1: "
                     "per output channel"));
  f.push_back(
      choice("weights.grid", &R::weights, &Weights::grid,
             "asym: any zero point; signed-sym: the two middle ones, which symmetric formats can store"));

  Field activation_bits =
      number("activations.bits", &R::activations, &Activations::bits, 2, 16,
             "of the inputs of the block linears, which the model quantizes when it runs; 16: off");
  activation_bits.choices = {"2", "3", "4", "5", "6", "7", "8", "16"};
  Field kv_bits = number("activations.kv_bits", &R::activations, &Activations::kv_bits, 2, 16,
                         "of keys and values as cached, token and head by token and head (queries then have "
                         "activations.bits); 16: off");
  kv_bits.choices = activation_bits.choices;
  f.push_back(std::move(activation_bits));
  f.push_back(std::move(kv_bits));
  f.push_back(boolean("activations.symmetric", &R::activations, &Activations::symmetric,
                      "quantizers of activations have no zero point"));
  f.push_back(
      choice("activations.granularity", &R::activations, &Activations::granularity,
             "per_token: a grid made anew for each token's vector; per_tensor, per_channel: grids that "
             "calibration finds, fixed when the model runs"));
  f.push_back(boolean("activations.allow_plain", &R::activations, &Activations::allow_plain,
                      "quantize activations though no stage prepares the model for it: the baseline of those "
                      "that do"));

  f.push_back(
      number("objective.token_cap", &R::objective, &Objective::token_cap, 0, 1e12,
             "omniquant, signround, block_ap: a token whose output has more than this times the median "
             "energy of its batch counts as if it had that much; 0: plain mean squared error"));

  f.push_back(number("smoothquant.alpha", &R::smoothquant, &SmoothQuant::alpha, 0, 1,
                     "how much of the range moves from activations into weights"));
  f.push_back(boolean("smoothquant.value_output", &R::smoothquant, &SmoothQuant::value_output,
                      "also smooth the input of o, through v"));
  f.push_back(boolean("smoothquant.up_down", &R::smoothquant, &SmoothQuant::up_down,
                      "also smooth the input of down, through up"));

  f.push_back(number("awq.steps", &R::awq, &Awq::steps, 1, 1000, "powers of the activations' mean tried"));
  f.push_back(boolean("awq.duo", &R::awq, &Awq::duo, "divide scales by a power of the weights' mean too"));
  f.push_back(choice("awq.value_output", &R::awq, &Awq::value_output,
                     "scale the input of o, through v; auto: where no two query heads share a value head"));
  f.push_back(boolean("awq.up_down", &R::awq, &Awq::up_down, "scale the input of down, through up"));
  f.push_back(boolean("awq.clip", &R::awq, &Awq::clip,
                      "search the range that groups keep (not of q and k), when awq chooses the codes"));
  f.push_back(number("awq.clip_steps", &R::awq, &Awq::clip_steps, 1, 1000,
                     "a group's range is tried in steps of 1 / clip_steps"));
  f.push_back(number("awq.clip_max_shrink", &R::awq, &Awq::clip_max_shrink, 0.01, 0.99,
                     "down to 1 - clip_max_shrink of it"));

  f.push_back(boolean("omniquant.lwc", &R::omniquant, &OmniQuant::lwc, "train the clipping of each group"));
  f.push_back(boolean("omniquant.let", &R::omniquant, &OmniQuant::let,
                      "train equivalent transformations: factors of channels that move between neighbors"));
  f.push_back(number("omniquant.epochs", &R::omniquant, &OmniQuant::epochs, 1, 1e6,
                     "passes over the training windows, per block"));
  f.push_back(number("omniquant.batch", &R::omniquant, &OmniQuant::batch, 1, 1e6, "windows per step"));
  f.push_back(
      number("omniquant.lwc_lr", &R::omniquant, &OmniQuant::lwc_lr, 0, 10, "learning rate of the clipping"));
  f.push_back(boolean("omniquant.search_start", &R::omniquant, &OmniQuant::search_start,
                      "clipping starts at the ratios of least squared error, not at 0.982"));
  f.push_back(number("omniquant.let_lr", &R::omniquant, &OmniQuant::let_lr, 0, 10,
                     "learning rate of the transformations"));
  f.push_back(number("omniquant.alpha", &R::omniquant, &OmniQuant::alpha, 0, 1,
                     "where transformations start, as smoothquant.alpha"));
  f.push_back(boolean("omniquant.up_down", &R::omniquant, &OmniQuant::up_down,
                      "also transform the input of down, which the authors do not"));
  f.push_back(boolean("omniquant.shift", &R::omniquant, &OmniQuant::shift,
                      "also train shifts; for families whose norms have a bias"));
  f.push_back(boolean("omniquant.aug_loss", &R::omniquant, &OmniQuant::aug_loss,
                      "also the error against the float block on the quantized stream"));
  f.push_back(boolean("omniquant.shuffle", &R::omniquant, &OmniQuant::shuffle,
                      "windows in another order each epoch"));
  f.push_back(boolean("omniquant.keep_best", &R::omniquant, &OmniQuant::keep_best,
                      "keep the epoch of least validation loss, not the last"));
  f.push_back(number("omniquant.seed", &R::omniquant, &OmniQuant::seed, 0, kExactIntegers,
                     "of the order of windows"));

  f.push_back(
      choice("rounding.method", &R::rounding, &Rounding::method,
             "ranges of groups: min-max, the largest weight on both sides (signed-sym), or the clipping "
             "ratio of least squared error, plain or weighted by activation energy"));
  f.push_back(number("rounding.min_ratio", &R::rounding, &Rounding::min_ratio, 0.01, 1,
                     "smallest clipping ratio that a search tries"));
  f.push_back(number("rounding.steps", &R::rounding, &Rounding::steps, 2, 1000,
                     "ratios tried, evenly spaced from min_ratio to 1"));

  f.push_back(number("gptq.damping", &R::gptq, &Gptq::damping, 0, 1,
                     "part of the mean of the Hessian's diagonal that is added to it"));
  f.push_back(boolean("gptq.act_order", &R::gptq, &Gptq::act_order,
                      "columns in the order of falling Hessian diagonal"));
  f.push_back(boolean("gptq.static_groups", &R::gptq, &Gptq::static_groups,
                      "ranges from the weights as they were; false: as updated, for act_order false"));
  f.push_back(boolean("gptq.sequential", &R::gptq, &Gptq::sequential,
                      "inputs of o, of gate and up, and of down from the linears quantized before them"));
  f.push_back(choice("gptq.range", &R::gptq, &Gptq::range, "how a group's range is found"));
  f.push_back(number("gptq.block_size", &R::gptq, &Gptq::block_size, 1, 1 << 20,
                     "columns whose updates of later ones are made at once"));

  f.push_back(
      number("signround.iterations", &R::signround, &SignRound::iterations, 1, 1e6, "steps per block"));
  f.push_back(number("signround.batch", &R::signround, &SignRound::batch, 1, 1e6, "windows per step"));
  f.push_back(number("signround.lr", &R::signround, &SignRound::lr, 0, 1,
                     "of rounding offsets, falling to 0; 0: 1 / iterations"));
  f.push_back(
      number("signround.range_lr", &R::signround, &SignRound::range_lr, 0, 1, "of range factors; 0: as lr"));
  f.push_back(boolean("signround.tune_ranges", &R::signround, &SignRound::tune_ranges,
                      "train the ranges of groups too"));
  f.push_back(boolean("signround.search_start", &R::signround, &SignRound::search_start,
                      "ranges start at the ratios of least squared error, not at minimum and maximum"));
  f.push_back(number("signround.seed", &R::signround, &SignRound::seed, 0, kExactIntegers,
                     "of the order of windows"));

  f.push_back(text("calibration.corpus", &R::calibration, &Calibration::corpus,
                   "a text, JSONL or token file, self, wikitext2, c4 or redpajama; --calib overrides it"));
  f.push_back(number("calibration.samples", &R::calibration, &Calibration::samples, 1, 1e9,
                     "training windows of the blocks"));
  f.push_back(number("calibration.validation_samples", &R::calibration, &Calibration::validation_samples, 0,
                     1e9, "windows that are only measured"));
  f.push_back(number("calibration.tokens", &R::calibration, &Calibration::tokens, 2, 1 << 24,
                     "tokens of such a window"));
  f.push_back(number("calibration.seed", &R::calibration, &Calibration::seed, 0, kExactIntegers,
                     "of the window selection"));
  f.push_back(choice("calibration.selection", &R::calibration, &Calibration::selection,
                     "how windows are drawn from the corpus"));

  f.push_back(number("block_ap.epochs", &R::block_ap, &BlockAp::epochs, 1, 1e6,
                     "passes over the training windows, per block"));
  f.push_back(number("block_ap.batch", &R::block_ap, &BlockAp::batch, 1, 1e6, "windows per optimizer step"));
  f.push_back(number("block_ap.weight_lr", &R::block_ap, &BlockAp::weight_lr, 0, 1,
                     "learning rate of weights and norms"));
  f.push_back(number("block_ap.quant_lr", &R::block_ap, &BlockAp::quant_lr, 0, 1,
                     "learning rate of scales and zero points"));
  f.push_back(number("block_ap.min_lr_factor", &R::block_ap, &BlockAp::min_lr_factor, 1, 1e12,
                     "the cosine ends at lr / min_lr_factor"));
  f.push_back(number("block_ap.weight_decay", &R::block_ap, &BlockAp::weight_decay, 0, 1,
                     "decoupled, of all trained parameters"));
  f.push_back(boolean("block_ap.train_norms", &R::block_ap, &BlockAp::train_norms,
                      "train the block's RMSNorm weights too"));
  f.push_back(boolean("block_ap.train_zero_points", &R::block_ap, &BlockAp::train_zero_points,
                      "train zero points too"));
  f.push_back(
      choice("block_ap.store_dtype", &R::block_ap, &BlockAp::store_dtype, "of the two activation streams"));
  f.push_back(choice("block_ap.precision", &R::block_ap, &BlockAp::precision,
                     "of matrix products; auto: bf16 where the hardware is fast at it, else f32"));

  f.push_back(number("e2e_qp.lr", &R::e2e_qp, &E2eQp::lr, 0, 1, "peak learning rate of the scales"));
  f.push_back(
      number("e2e_qp.steps", &R::e2e_qp, &E2eQp::steps, 0, 1e9, "optimizer steps; 0: one pass over samples"));
  f.push_back(number("e2e_qp.samples", &R::e2e_qp, &E2eQp::samples, 1, 1e9, "training windows"));
  f.push_back(number("e2e_qp.tokens", &R::e2e_qp, &E2eQp::tokens, 2, 1 << 24, "tokens of a window"));
  f.push_back(number("e2e_qp.batch", &R::e2e_qp, &E2eQp::batch, 1, 1e6, "windows per micro-batch"));
  f.push_back(number("e2e_qp.accumulation", &R::e2e_qp, &E2eQp::accumulation, 1, 1e6,
                     "micro-batches per optimizer step"));
  f.push_back(number("e2e_qp.seed", &R::e2e_qp, &E2eQp::seed, 0, kExactIntegers,
                     "of window selection and visiting order"));
  f.push_back(
      choice("e2e_qp.selection", &R::e2e_qp, &E2eQp::selection, "how windows are drawn from the corpus"));
  f.push_back(number("e2e_qp.warmup_ratio", &R::e2e_qp, &E2eQp::warmup_ratio, 0, 1,
                     "part of the steps in which lr rises from 0"));
  f.push_back(
      number("e2e_qp.weight_decay", &R::e2e_qp, &E2eQp::weight_decay, 0, 1, "decoupled, of the scales"));
  f.push_back(number("e2e_qp.max_grad_norm", &R::e2e_qp, &E2eQp::max_grad_norm, 0, 1e12,
                     "global gradient norm above which it is scaled down; 0: never"));
  f.push_back(choice("e2e_qp.loss", &R::e2e_qp, &E2eQp::loss,
                     "ce: next-token cross-entropy; kl: divergence from the full-precision model"));
  f.push_back(
      choice("e2e_qp.precision", &R::e2e_qp, &E2eQp::precision, "of matrix products, as block_ap.precision"));

  f.push_back(choice("output.scale_dtype", &R::output, &Output::scale_dtype,
                     "of stored scales; applied before the final codes are chosen"));
  f.push_back(number("output.shard_bytes", &R::output, &Output::shard_bytes, 1 << 20, kExactIntegers,
                     "largest safetensors file written"));
  Field head = number("output.head_bits", &R::output, &Output::head_bits, 0, 8,
                      "at which the engine keeps embedding and head; 0: as the floats that are written");
  head.choices = {"0", "4", "6", "8"};
  f.push_back(std::move(head));

  f.push_back(number("performance.threads", &R::performance, &Performance::threads, 0, 1024,
                     "0: every core; --threads overrides it"));
  f.push_back(
      number("performance.activation_ram_limit_bytes", &R::performance,
             &Performance::activation_ram_limit_bytes, 0, kExactIntegers,
             "streams above it go to mapped files; 0: an eighth of the memory available at the start"));
  f.push_back(boolean("performance.activation_checkpointing", &R::performance,
                      &Performance::activation_checkpointing,
                      "E2E-QP: recompute activations in the backward pass"));
  f.push_back(number("performance.logits_chunk_tokens", &R::performance, &Performance::logits_chunk_tokens, 1,
                     1 << 24, "rows of logits that exist at once"));
  return f;
}

std::string number_text(double value) {
  return std::abs(value) < kExactIntegers && value == std::floor(value)
             ? cat(static_cast<std::int64_t>(value))
             : cat(value);
}

/// `value` as the integer it is; JSON writers give 1e4 and 4096.0 for whole numbers too.
bool whole_number(const nlohmann::json& value, nlohmann::json& out) {
  if (value.is_number_integer()) {
    out = value;
    return true;
  }
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  if (!(std::abs(number) <= kExactIntegers) || number != std::floor(number)) return false;
  out = static_cast<std::int64_t>(number);
  return true;
}

[[noreturn]] void reject(std::string_view subject, const Field& field, const nlohmann::json& value) {
  fail(ErrorKind::kInvalidArgument, "recipe", subject, ": ", field.path, " is ",
       value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), "; expected ",
       field.type == FieldType::kList                               ? "a list "
       : field.type == FieldType::kChoice || !field.choices.empty() ? ""
                                                                    : cat("a ", to_string(field.type), " "),
       field.range(), " (", field.doc, ")");
}

void check_list(std::string_view subject, const Field& field, const nlohmann::json& value) {
  if (!value.is_array()) reject(subject, field, value);
  std::vector<std::string> seen;
  for (const auto& item : value) {
    if (!item.is_string()) reject(subject, field, value);
    const auto& word = item.get_ref<const std::string&>();
    if (std::find(field.choices.begin(), field.choices.end(), word) == field.choices.end()) {
      const std::string nearest = nearest_word(word, field.choices);
      fail(ErrorKind::kInvalidArgument, "recipe", subject, ": ", field.path, " names '", word, "'; ",
           nearest.empty() ? cat("known are ", join(field.choices, ", "))
                           : cat("did you mean '", nearest, "'?"));
    }
    if (std::find(seen.begin(), seen.end(), word) != seen.end()) {
      fail(ErrorKind::kInvalidArgument, "recipe", subject, ": ", field.path, " names '", word,
           "' twice; expected each at most once");
    }
    seen.push_back(word);
  }
}

}  // namespace

std::string_view to_string(FieldType type) noexcept {
  switch (type) {
    case FieldType::kInteger:
      return "whole number";
    case FieldType::kNumber:
      return "number";
    case FieldType::kBoolean:
      return "boolean";
    case FieldType::kText:
      return "text";
    case FieldType::kChoice:
      return "choice";
    case FieldType::kList:
      return "list";
  }
  return "?";
}

std::string Field::range() const {
  if (type == FieldType::kBoolean) return "true | false";
  if (type == FieldType::kList) return cat("of ", join(choices, ", "));
  if (!choices.empty()) return join(choices, " | ");
  const bool low = minimum > -kInfinity, high = maximum < kInfinity;
  if (low && high) return cat(number_text(minimum), " to ", number_text(maximum));
  if (low) return cat(">= ", number_text(minimum));
  if (high) return cat("<= ", number_text(maximum));
  return "";
}

std::span<const Field> fields() {
  static const std::vector<Field> all = make_fields();
  return all;
}

const Field* find_field(std::string_view path) {
  for (const Field& field : fields()) {
    if (field.path == path) return &field;
  }
  return nullptr;
}

void assign(Recipe& recipe, const Field& field, const nlohmann::json& value, std::string_view subject) {
  nlohmann::json checked = value;
  switch (field.type) {
    case FieldType::kBoolean:
      if (!value.is_boolean()) reject(subject, field, value);
      break;
    case FieldType::kText:
      if (!value.is_string()) reject(subject, field, value);
      break;
    case FieldType::kChoice: {
      bool known = false;
      if (value.is_string()) {
        for (const std::string& word : field.choices)
          known = known || word == value.get_ref<const std::string&>();
      }
      if (!known) reject(subject, field, value);
      break;
    }
    case FieldType::kList:
      check_list(subject, field, value);
      break;
    case FieldType::kInteger:
      if (!whole_number(value, checked)) reject(subject, field, value);
      [[fallthrough]];
    case FieldType::kNumber: {
      if (!value.is_number()) reject(subject, field, value);
      const double number = checked.get<double>();
      if (!(number >= field.minimum && number <= field.maximum)) reject(subject, field, value);
      if (field.type == FieldType::kInteger && !field.choices.empty()) {
        bool known = false;
        for (const std::string& word : field.choices) known = known || word == checked.dump();
        if (!known) reject(subject, field, value);
      }
      break;
    }
  }
  field.set(recipe, checked);
}

}  // namespace crumb::recipe
