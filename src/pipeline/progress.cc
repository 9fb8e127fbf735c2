#include "pipeline/progress.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"

namespace crumb::pipeline {

using recipe::Stage;

namespace {

constexpr double kBetween = 0.2;  // seconds from one drawing to the next
constexpr int kWidth = 24;        // of the bar, in characters

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double product(auto... factors) {
  return (1.0 * ... * static_cast<double>(factors));
}

// Of one block, in tokens that pass through it. Searches and factorizations, whose cost does not grow with
// tokens, are guessed at so many passes.
double work_of(Stage stage, const recipe::Recipe& r) {
  const double pass = product(r.calibration.samples, r.calibration.tokens);
  switch (stage) {
    case Stage::kSmoothQuant:
      return pass;
    case Stage::kAwq:
      return 10 * pass;
    case Stage::kRounding:
      return r.rounding.method == recipe::InitMethod::kClipSearchActivation ? 0.5 * pass : 0;
    case Stage::kGptq:
      return 8 * pass;
    case Stage::kOmniQuant:
      return 3 * product(r.omniquant.epochs) * pass;
    case Stage::kSignRound:
      return 3 * product(r.signround.iterations, r.signround.batch, r.calibration.tokens);
    case Stage::kBlockAp:
      return 3 * product(r.block_ap.epochs) * pass;
    case Stage::kE2eQp:
      return 0;
  }
  return 0;
}

}  // namespace

Progress::Progress(const recipe::Recipe& recipe, std::int64_t blocks)
    : blocks_(blocks),
      e2e_steps_(recipe.has(Stage::kE2eQp) ? recipe.e2e_qp.resolved_steps() : 0),
      start_(now()) {
  const recipe::Calibration& data = recipe.calibration;
  // Rounding and loading: one unit a block. Two streams where somebody reads them.
  block_work_ =
      1 + (recipe.reads_activations() ? 2 * product(data.samples + data.validation_samples, data.tokens) : 0);
  for (const Stage stage : recipe.stages) {
    stage_work_.emplace_back(stage, work_of(stage, recipe));
    block_work_ += stage_work_.back().second;
  }
  e2e_work_ = 4 * product(recipe.e2e_qp.batch, recipe.e2e_qp.accumulation, recipe.e2e_qp.tokens, blocks);
}

Progress::~Progress() {
  log::set_status("");
}

double Progress::fraction() const {
  return done_ / (block_work_ * static_cast<double>(blocks_) + e2e_work_ * static_cast<double>(e2e_steps_));
}

double Progress::seconds_left() const {
  const double all = done_ / std::max(fraction(), 1e-12);
  return seconds_a_unit_ * (all - done_);
}

void Progress::advance_to(double work, bool resumed, bool whole, const std::string& what) {
  if (!resumed) measured_ += std::max(0.0, work - done_);
  done_ = std::max(done_, work);
  if (whole && measured_ > 0) seconds_a_unit_ = (now() - start_) / measured_;
  if (now() - shown_ < kBetween) return;
  shown_ = now();
  const int filled = static_cast<int>(fraction() * kWidth);
  log::set_status(
      cat("[", std::string(static_cast<std::size_t>(filled), '#'),
          std::string(static_cast<std::size_t>(kWidth - filled), '-'), "] ",
          static_cast<int>(fraction() * 100), " %  ", what,
          seconds_a_unit_ > 0 ? cat("  about ", human_seconds(seconds_left()), " left") : std::string()));
}

void Progress::block_step(std::int64_t block, Stage stage, std::int64_t step, std::int64_t steps) {
  double all = 0, done = 0;  // of the stages of a block
  for (const auto& [each, work] : stage_work_) {
    if (each == stage)
      done = all + work * static_cast<double>(step) / static_cast<double>(std::max<std::int64_t>(steps, 1));
    all += work;
  }
  const double part = all > 0 ? done / all : 0;
  advance_to(
      block_work_ * (static_cast<double>(block) + part), false, false,
      cat("block ", block + 1, "/", blocks_, ", ", recipe::to_string(stage), " step ", step, "/", steps));
}

void Progress::blocks_done(std::int64_t blocks, bool resumed) {
  advance_to(block_work_ * static_cast<double>(blocks), resumed, true, cat("block ", blocks, "/", blocks_));
}

void Progress::e2e_resumed(std::int64_t steps) {
  advance_to(block_work_ * static_cast<double>(blocks_) + e2e_work_ * static_cast<double>(steps), true, false,
             cat("E2E-QP, step ", steps, "/", e2e_steps_));
}

void Progress::e2e_step(std::int64_t step) {
  advance_to(block_work_ * static_cast<double>(blocks_) + e2e_work_ * static_cast<double>(step), false, true,
             cat("E2E-QP, step ", step, "/", e2e_steps_));
}

}  // namespace crumb::pipeline
