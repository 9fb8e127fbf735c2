#include "recipe/schema.h"

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

std::vector<Field> make_fields() {
  using R = Recipe;
  std::vector<Field> f;
  f.push_back(text("card.description", &R::card, &Card::description, "what this recipe is for, in one line"));
  f.push_back(text("card.paper", &R::card, &Card::paper, "the method's source"));
  f.push_back(text("card.expects", &R::card, &Card::expects, "measured results, or that there are none yet"));
  f.push_back(
      text("card.cost", &R::card, &Card::cost, "measured time and memory, or that there are none yet"));

  Field bits =
      number("weights.bits", &R::weights, &Weights::bits, 2, 8, "bits of a code of the block linears");
  bits.choices = {"2", "3", "4", "8"};
  f.push_back(std::move(bits));
  f.push_back(number("weights.group_size", &R::weights, &Weights::group_size, -1, 1 << 30,
                     "weights along K that share one scale and zero point; must divide every linear's K; -1: "
                     "per output channel"));
  f.push_back(
      choice("weights.grid", &R::weights, &Weights::grid,
             "asym: any zero point; signed-sym: the two middle ones, which symmetric formats can store"));

  f.push_back(choice("initialization.method", &R::initialization, &Initialization::method,
                     "where scales start: min-max, or the clipping ratio of least squared error, plain or "
                     "weighted by activation energy"));
  f.push_back(number("initialization.min_ratio", &R::initialization, &Initialization::min_ratio, 0.01, 1,
                     "smallest clipping ratio that a search tries"));
  f.push_back(number("initialization.steps", &R::initialization, &Initialization::steps, 2, 1000,
                     "ratios tried, evenly spaced from min_ratio to 1"));

  f.push_back(text("calibration.corpus", &R::calibration, &Calibration::corpus,
                   "a text, JSONL or token file, self, wikitext2, c4 or redpajama; --calib overrides it"));
  f.push_back(number("calibration.samples", &R::calibration, &Calibration::samples, 1, 1e9,
                     "training windows of Block-AP"));
  f.push_back(number("calibration.validation_samples", &R::calibration, &Calibration::validation_samples, 0,
                     1e9, "windows that are only measured"));
  f.push_back(number("calibration.tokens", &R::calibration, &Calibration::tokens, 2, 1 << 24,
                     "tokens of a Block-AP window"));
  f.push_back(number("calibration.seed", &R::calibration, &Calibration::seed, 0, kExactIntegers,
                     "of the window selection"));
  f.push_back(choice("calibration.selection", &R::calibration, &Calibration::selection,
                     "how windows are drawn from the corpus"));

  f.push_back(boolean("block_ap.enabled", &R::block_ap, &BlockAp::enabled,
                      "train block by block; false leaves the initialization (RTN)"));
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

  f.push_back(
      boolean("e2e_qp.enabled", &R::e2e_qp, &E2eQp::enabled, "train the scales end to end after Block-AP"));
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
  fail(
      ErrorKind::kInvalidArgument, "recipe", subject, ": ", field.path, " is ",
      value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), "; expected ",
      field.type == FieldType::kChoice || !field.choices.empty() ? "" : cat("a ", to_string(field.type), " "),
      field.range(), " (", field.doc, ")");
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
  }
  return "?";
}

std::string Field::range() const {
  if (type == FieldType::kBoolean) return "true | false";
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
