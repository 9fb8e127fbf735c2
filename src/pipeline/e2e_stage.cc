#include "pipeline/e2e_stage.h"

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "methods/efficientqat/e2e_qp.h"
#include "pipeline/e2e_checkpoint.h"
#include "pipeline/report.h"
#include "pipeline/stages.h"

namespace crumb::pipeline {

using nlohmann::ordered_json;
namespace fs = std::filesystem;
namespace efficientqat = methods::efficientqat;

namespace {

constexpr double kCheckpointSeconds = 30;  // between checkpoints

// The micro-batches of optimizer step k: windows in their order, again from the first when they are used up.
std::vector<efficientqat::E2eBatch> micro_batches(const QuantizeContext& c,
                                                  const std::optional<calib::ActivationStore>& teacher,
                                                  std::int64_t k) {
  std::vector<efficientqat::E2eBatch> batches;
  const recipe::E2eQp& how = c.recipe.e2e_qp;
  for (std::int64_t a = 0; a < how.accumulation; ++a) {
    std::vector<std::int32_t> ids;
    std::vector<at::Tensor> hidden;
    for (std::int64_t b = 0; b < how.batch; ++b) {
      const std::int64_t window = ((k * how.accumulation + a) * how.batch + b) % c.calibration.e2e.rows;
      const auto row = c.calibration.e2e.row(window);
      ids.insert(ids.end(), row.begin(), row.end());
      if (teacher) hidden.push_back(teacher->read(window, 1));
    }
    efficientqat::E2eBatch batch{nn::ids_tensor(ids, how.batch, c.calibration.e2e.columns, c.device), {}};
    if (teacher) batch.teacher_hidden = at::cat(hidden).to(c.device);
    batches.push_back(std::move(batch));
  }
  return batches;
}

// The steps so far and what they cost, over all processes that worked on them.
class History {
 public:
  explicit History(std::int64_t steps) : steps_(steps) {}

  // What an earlier process recorded with its checkpoint.
  void restore(const ordered_json& event) {
    losses_ = event.at("losses");
    norms_ = event.at("gradient_norms");
    earlier_.push_back(event.at("cost"));
    file_ = event.at("file");
  }
  void add(QuantizeContext& c, const efficientqat::E2eStep& step) {
    losses_.push_back(step.loss);
    norms_.push_back(step.gradient_norm);
    const auto taken = static_cast<std::int64_t>(losses_.size());
    c.metrics->add(
        {{"e2e_step", taken}, {"loss", step.loss}, {"gradient_norm", step.gradient_norm}, {"lr", step.lr}});
    c.progress->e2e_step(taken);
    log::info("e2e_step=", taken, "/", steps_, " loss=", fixed(step.loss, 4),
              " gradient_norm=", fixed(step.gradient_norm, 3), " lr=", step.lr,
              " left=", human_seconds(c.progress->seconds_left()));
  }
  // The new checkpoint is whole and in the journal before the one before it goes.
  void checkpoint(QuantizeContext& c, const efficientqat::E2eQp& trainer) {
    const std::string name = cat("e2e_", trainer.steps_taken(), ".safetensors");
    save_e2e_checkpoint(c.run->path() / name, trainer.state());
    ordered_json event = c.run->describe_file(name);
    event.update(
        {{"step", trainer.steps_taken()}, {"losses", losses_}, {"gradient_norms", norms_}, {"cost", cost()}});
    c.run->record("e2e_checkpoint", event);
    if (!file_.empty() && file_ != name) fs::remove(c.run->path() / file_);
    file_ = name;
    checkpoint_at_ = meter_.seconds();
  }
  bool checkpoint_is_due() const { return meter_.seconds() - checkpoint_at_ > kCheckpointSeconds; }
  ordered_json result(const recipe::E2eQp& how) const {
    ordered_json result = {{"steps", steps_},
                           {"loss", recipe::to_string(how.loss)},
                           {"losses", losses_},
                           {"gradient_norms", norms_}};
    result.update(cost());
    return result;
  }

 private:
  ordered_json cost() const {
    ordered_json pieces = earlier_;
    pieces.push_back(meter_.finish());
    return total_cost(pieces);
  }

  std::int64_t steps_;
  Meter meter_;
  ordered_json losses_ = ordered_json::array(), norms_ = ordered_json::array(),
               earlier_ = ordered_json::array();
  std::string file_;  // of the last checkpoint
  double checkpoint_at_ = 0;
};

}  // namespace

std::vector<at::Tensor> train_end_to_end(QuantizeContext& c,
                                         const std::optional<calib::ActivationStore>& teacher) {
  if (const auto event = c.run->find("e2e_done")) {
    c.report["e2e_qp"] = event->at("result");
    return load_e2e_checkpoint(c.run->verified_file(*event)).scales;
  }
  const std::int64_t steps = c.recipe.e2e_qp.resolved_steps();
  History history(steps);
  nn::CausalLm lm = packed_model(c);
  efficientqat::E2eQp trainer(lm, c.recipe.e2e_qp, c.recipe.performance, steps);
  if (const auto event = c.run->find("e2e_checkpoint")) {
    trainer.restore(load_e2e_checkpoint(c.run->verified_file(*event)));
    history.restore(*event);
    c.progress->e2e_resumed(trainer.steps_taken());
    log::info("E2E-QP: going on after step ", trainer.steps_taken(), "/", steps);
  }
  while (trainer.steps_taken() < steps) {
    std::optional<Error> stopped;
    try {
      history.add(c, trainer.step(micro_batches(c, teacher, trainer.steps_taken())));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kInterrupted) throw;
      stopped = error;
    }
    const bool last = trainer.steps_taken() == steps;
    if (last || stopped || interrupted() || history.checkpoint_is_due()) {
      history.checkpoint(c, trainer);
      if (stopped) throw *stopped;
      if (!last) throw_if_interrupted("pipeline.quantize");
    }
  }
  trainer.finish();
  ordered_json done = *c.run->find("e2e_checkpoint");
  done.erase("event");
  done["result"] = history.result(c.recipe.e2e_qp);
  c.run->record("e2e_done", done);
  c.report["e2e_qp"] = done["result"];
  return trainer.state().scales;
}

}  // namespace crumb::pipeline
