// What a recipe must not say: docs/recipes.md lists the same rules.
#include <algorithm>

#include "base/error.h"
#include "recipe/enums.h"
#include "recipe/recipe.h"

namespace crumb::recipe {
namespace {

bool always_chooses(Stage stage) {
  return stage == Stage::kOmniQuant || stage == Stage::kRounding || stage == Stage::kGptq ||
         stage == Stage::kSignRound;
}

/// The checks of one recipe, which all refuse in its name.
class Checker {
 public:
  explicit Checker(const Recipe& recipe) : r_(recipe) {}

  void all() const {
    grid();
    stages();
    activations();
    windows();
    parameters();
  }

 private:
  template <class... Parts>
  [[noreturn]] void reject(const Parts&... parts) const {
    fail(ErrorKind::kInvalidArgument, "recipe", r_.name.empty() ? "recipe" : r_.name, ": ", parts...);
  }

  void grid() const {
    const Weights& w = r_.weights;
    if (w.group_size == 0)
      reject("weights.group_size is 0; expected a positive number, or -1 for one group per row");
    quant::check_grid(w.spec(), w.group_size == -1 ? 1 : w.group_size, "weights");
  }

  void stages() const {
    if (r_.stages.empty()) reject("stages is empty; expected what is to be done, for example [\"rounding\"]");
    const Stage* chosen_by = nullptr;  // by a stage that does nothing else
    bool awq = false;                  // which chooses where nobody else does
    for (std::size_t i = 0; i < r_.stages.size(); ++i) {
      const Stage& stage = r_.stages[i];
      const std::string_view before = i > 0 ? to_string(r_.stages[i - 1]) : "";
      if (i > 0 && r_.stages[i - 1] == Stage::kE2eQp)
        reject("stage '", to_string(stage),
               "' comes after 'e2e_qp', which trains the finished model; move it before");
      if (always_chooses(stage)) {
        if (chosen_by != nullptr) {
          reject("stages '", to_string(*chosen_by), "' and '", to_string(stage),
                 "' both choose the codes, and the second does not start from those of the first; keep one");
        }
        if (i > 0 && r_.stages[i - 1] == Stage::kBlockAp)
          reject("stage '", to_string(stage),
                 "' chooses codes after 'block_ap', whose result it would throw away; move it before");
        chosen_by = &stage;
      }
      if (stage == Stage::kSmoothQuant || stage == Stage::kAwq) {
        if (chosen_by != nullptr || (i > 0 && r_.stages[i - 1] == Stage::kBlockAp)) {
          reject("stage '", to_string(stage), "' transforms weights whose codes '",
                 chosen_by != nullptr ? to_string(*chosen_by) : before,
                 "' has chosen already; move it before");
        }
        awq = awq || stage == Stage::kAwq;
      }
      if ((stage == Stage::kBlockAp || stage == Stage::kE2eQp) && chosen_by == nullptr && !awq) {
        reject("stage '", to_string(stage),
               "' trains codes that no stage before it has chosen; put rounding, gptq, awq, signround or "
               "omniquant "
               "before it");
      }
    }
    if (chosen_by == nullptr && !awq) {
      std::vector<std::string> names;
      for (const Stage stage : r_.stages) names.emplace_back(to_string(stage));
      reject("stages: ", join(names, ", "),
             ": none of them chooses codes; add rounding, gptq, awq, signround or omniquant");
    }
  }

  void activations() const {
    const Activations& a = r_.activations;
    const bool prepared = r_.has(Stage::kSmoothQuant) || r_.has(Stage::kOmniQuant);
    if (a.on() && !prepared && !a.allow_plain) {
      reject(a.bits < 16 ? "activations.bits " : "activations.kv_bits ", a.bits < 16 ? a.bits : a.kv_bits,
             ", and none of the stages prepares the model for quantized activations; add smoothquant or "
             "omniquant, or say activations.allow_plain=true for the plain baseline");
    }
    if (r_.has(Stage::kSmoothQuant) && a.bits == 16) {
      reject(
          "stage 'smoothquant' makes weights harder to quantize so that activations get easier, and "
          "activations.bits is 16 (off); set activations.bits, or leave the stage out");
    }
    if (a.granularity == quant::Granularity::kPerToken) return;
    const std::string_view word = word_of(a.granularity);
    if (a.bits == 16) {
      reject("activations.granularity ", word,
             ", and activations.bits is 16 (off); set activations.bits, or "
             "leave the granularity at per_token");
    }
    for (const Stage stage : {Stage::kOmniQuant, Stage::kSignRound, Stage::kBlockAp, Stage::kE2eQp}) {
      if (r_.has(stage)) {
        reject("activations.granularity ", word, ": stage '", to_string(stage),
               "' trains through activation "
               "quantizers, and static grids are found when a block is done; use per_token, or smoothquant, "
               "awq, gptq or rounding");
      }
    }
  }

  void windows() const {
    const Calibration& c = r_.calibration;
    if (c.corpus.empty())
      reject("calibration.corpus is empty; expected a file, self, wikitext2, c4 or redpajama");
    const auto divides = [&](Stage stage, std::string_view name, std::int64_t batch) {
      if (r_.has(stage) && c.samples % batch != 0) {
        reject("calibration.samples ", c.samples, " is no multiple of ", name, ".batch ", batch,
               "; every step needs a whole batch");
      }
    };
    divides(Stage::kBlockAp, "block_ap", r_.block_ap.batch);
    divides(Stage::kOmniQuant, "omniquant", r_.omniquant.batch);
    if (r_.has(Stage::kBlockAp) && c.validation_samples % r_.block_ap.batch != 0) {
      reject("calibration.validation_samples ", c.validation_samples, " is no multiple of block_ap.batch ",
             r_.block_ap.batch, "; every measurement needs a whole batch");
    }
    if (r_.has(Stage::kSignRound) && r_.signround.batch > c.samples) {
      reject("signround.batch ", r_.signround.batch, " is more than calibration.samples ", c.samples,
             "; a step would see a window twice");
    }
    const E2eQp& e = r_.e2e_qp;
    if (r_.has(Stage::kE2eQp) && e.steps == 0 && e.samples % (e.batch * e.accumulation) != 0) {
      reject("e2e_qp.samples ", e.samples, " is no multiple of e2e_qp.batch ", e.batch,
             " x e2e_qp.accumulation ", e.accumulation,
             ", and e2e_qp.steps is 0 (one pass); change one of them");
    }
    if (r_.has(Stage::kE2eQp) && e.samples < e.batch) {
      reject("e2e_qp.samples ", e.samples, " is less than e2e_qp.batch ", e.batch,
             "; a micro-batch would hold a window twice");
    }
  }

  void parameters() const {
    if (r_.has(Stage::kRounding) && r_.rounding.method == InitMethod::kAbsMax &&
        r_.weights.grid != quant::Grid::kSignedSym) {
      reject(
          "rounding.method absmax has symmetric ranges, and weights.grid is asym; set it to signed-sym, or "
          "the "
          "method to minmax");
    }
    if (r_.has(Stage::kOmniQuant) && !r_.omniquant.lwc && !r_.omniquant.let)
      reject("omniquant.lwc and omniquant.let are both false: nothing would be trained; switch one on");
    if (r_.has(Stage::kGptq) && r_.gptq.act_order && !r_.gptq.static_groups) {
      reject(
          "gptq.act_order is true and gptq.static_groups false: groups of scattered columns, which no "
          "format here stores; change one of them");
    }
    if (r_.has(Stage::kAwq) && static_cast<int>(r_.awq.clip_max_shrink * r_.awq.clip_steps) < 1) {
      reject("awq.clip_max_shrink ", r_.awq.clip_max_shrink, " of awq.clip_steps ", r_.awq.clip_steps,
             " leaves no range to try; raise one of them");
    }
  }

  const Recipe& r_;
};

}  // namespace

bool Recipe::has(Stage stage) const {
  return std::find(stages.begin(), stages.end(), stage) != stages.end();
}

Stage Recipe::chooser() const {
  for (const Stage stage : stages) {
    if (always_chooses(stage)) return stage;
  }
  if (has(Stage::kAwq)) return Stage::kAwq;
  fail(ErrorKind::kInvalidArgument, "recipe", name, ": no stage chooses codes");
}

bool Recipe::transforms() const {
  return has(Stage::kSmoothQuant) || has(Stage::kAwq) || (has(Stage::kOmniQuant) && omniquant.let);
}

Stage Recipe::last_block_stage() const {
  return has(Stage::kBlockAp) ? Stage::kBlockAp : chooser();
}

bool Recipe::reads_activations() const {
  return rounding.method == InitMethod::kClipSearchActivation || activations.scheme().is_static() ||
         std::any_of(stages.begin(), stages.end(), [](Stage stage) { return stage != Stage::kRounding; });
}

void check_recipe(const Recipe& recipe) {
  Checker(recipe).all();
}

}  // namespace crumb::recipe
