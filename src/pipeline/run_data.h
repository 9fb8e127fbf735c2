// The tokens of a run: calibration windows of both phases and evaluation windows.
#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "data/text_source.h"
#include "data/tokenizer.h"
#include "data/windows.h"
#include "model/language_model.h"
#include "recipe/recipe.h"

namespace crumb::pipeline {

struct CalibrationData {
  data::TokenWindows train, validation;  // Block-AP
  data::TokenWindows
      e2e;  // E2E-QP, in the order of its micro-batches; visited again from the first when steps need more
  /// Of all ids: what the result depends on.
  std::string content_hash() const;
};

/// Resolves --calib:
///
///   self                text sampled from the full-precision model (`teacher` is called then, once)
///   FILE.safetensors    token ids: tensors `train`, `validation` or `val`, and `e2e`
///   FILE.safetensors:X  token ids: tensor X for all three; rows in order, Block-AP's first
///   anything else       a text file or a named corpus, windows chosen as the recipe says
///
/// Throws InvalidArgument when the source cannot give what the recipe asks, naming both.
CalibrationData prepare_calibration(const std::string& spec, const recipe::Recipe& recipe,
                                    const data::Tokenizer* tokenizer, std::int64_t vocab_size,
                                    const std::function<std::unique_ptr<model::LanguageModel>()>& teacher);

/// The file that a --calib or --eval value names, without a tensor's name; empty for `self` and named
/// corpora.
std::filesystem::path source_file(const std::string& spec);

/// Kept in the run directory, so that a resumed run does not sample or download again.
void save_calibration(const std::filesystem::path& file, const CalibrationData& data);
CalibrationData load_calibration(const std::filesystem::path& file);

}  // namespace crumb::pipeline
