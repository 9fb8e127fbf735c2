// A model to evaluate, by whichever program part runs it.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/run/engine.h"
#include "data/tokenizer.h"
#include "model/language_model.h"

namespace crumb::cli {

struct OpenedModel {
  std::unique_ptr<model::LanguageModel> model;
  std::unique_ptr<data::Tokenizer> tokenizer;  // null when the model has no tokenizer files
  std::string description;
};

/// Packed models run on the engine (src/runtime). Float models run in torch where this build has it and
/// nobody says otherwise, so that training's own full precision is measured, else on the engine too.
struct ModelLoader {
  std::string engine = "auto", device = "auto", precision = "auto";
  EngineFlags flags;  // torch takes the number of threads alone

  /// --device and --precision only with torch, and --engine torch.
  void add_options(CLI::App& command);
  /// Throws as Engine::load, or as pipeline::load_model.
  OpenedModel open(const std::string& path) const;
};

/// --device, --precision.
void add_torch_options(CLI::App& command, std::string& device, std::string& precision);
/// --threads as commands have it that run in torch: 0 to 1024.
void add_torch_threads(CLI::App& command, int& threads);

/// src/cli/train/torch_model.cc.
OpenedModel open_torch_model(const std::string& path, const ModelLoader& loader);

}  // namespace crumb::cli
