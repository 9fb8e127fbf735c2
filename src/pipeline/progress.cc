#include "pipeline/progress.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"

namespace crumb::pipeline {
namespace {

constexpr double kBetween = 0.2;  // seconds from one drawing to the next
constexpr int kWidth = 24;        // of the bar, in characters

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Progress::Progress(const recipe::Recipe& recipe, std::int64_t blocks)
    : blocks_(blocks), e2e_steps_(recipe.e2e_qp.enabled ? recipe.e2e_qp.resolved_steps() : 0), start_(now()) {
  const auto product = [](auto... factors) { return (1.0 * ... * static_cast<double>(factors)); };
  const recipe::Calibration& data = recipe.calibration;
  // Two streams, and what is trained. A run without training still rounds and loads: one unit a block.
  const bool trains = recipe.block_ap.enabled;
  block_work_ = 1 + 2 * product(data.samples + data.validation_samples, data.tokens) * (trains ? 1 : 0) +
                (trains ? 3 * product(recipe.block_ap.epochs, data.samples, data.tokens) : 0);
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

void Progress::block_step(std::int64_t block, std::int64_t step, std::int64_t steps) {
  const double part = static_cast<double>(step) / static_cast<double>(std::max<std::int64_t>(steps, 1));
  advance_to(block_work_ * (static_cast<double>(block) + part), false, false,
             cat("block ", block + 1, "/", blocks_, ", step ", step, "/", steps));
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
