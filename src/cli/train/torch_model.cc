#include "cli/model_loader.h"
#include "pipeline/load_model.h"

namespace crumb::cli {

OpenedModel open_torch_model(const std::string& path, const ModelLoader& loader) {
  pipeline::LoadOptions options;
  options.device = loader.device;
  options.precision = loader.precision;
  options.threads = loader.flags.threads;
  pipeline::LoadedModel loaded = pipeline::load_model(path, options);
  return {std::move(loaded.model), std::move(loaded.tokenizer), std::move(loaded.description)};
}

}  // namespace crumb::cli
