// How far a run is and how long the rest takes.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "recipe/recipe.h"

namespace crumb::pipeline {

/// Counts the work of a recipe's stages in tokens that pass through one block (a training step counts three
/// times, one that recomputes four times, collecting statistics once), and shows a bar under the log on a
/// terminal. Evaluations are not counted.
class Progress {
 public:
  Progress(const recipe::Recipe& recipe, std::int64_t blocks);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `stage` is at `step` (counted from 1) of `steps` in `block`; E2E-QP has taken `step` steps.
  void block_step(std::int64_t block, recipe::Stage stage, std::int64_t step, std::int64_t steps);
  void e2e_step(std::int64_t step);
  /// Everything before `block` is done, in this process or (`resumed`) in an earlier one; a resumed part says
  /// nothing about speed.
  void blocks_done(std::int64_t blocks, bool resumed);
  void e2e_resumed(std::int64_t steps);

  /// Of all work, 0 … 1, and the time that the rest takes at the speed so far; 0 before anything was
  /// measured.
  double fraction() const;
  double seconds_left() const;

 private:
  // `whole`: a block or a step has ended, so that its start-up is in the measured time.
  void advance_to(double work, bool resumed, bool whole, const std::string& what);

  std::int64_t blocks_, e2e_steps_;
  std::vector<std::pair<recipe::Stage, double>> stage_work_;  // of the stages of one block
  double block_work_ = 0, e2e_work_ = 0;                      // of one block, of one step
  double done_ = 0, measured_ = 0, seconds_a_unit_ = 0, start_, shown_ = 0;
};

}  // namespace crumb::pipeline
