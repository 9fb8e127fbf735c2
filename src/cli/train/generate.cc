#include "eval/generate.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/model_loader.h"
#include "cli/sampler_options.h"
#include "cli/utf8_tail.h"
#include "pipeline/load_model.h"

namespace crumb::cli {
namespace {

struct GenerateCommandOptions {
  std::string model, prompt;
  eval::GenerateOptions generate;
  bool json = false;
  pipeline::LoadOptions load;
};

/// Prints text as tokens arrive; a character whose bytes are not all there yet waits.
class Stream {
 public:
  explicit Stream(const data::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void add(std::int32_t token) {
    tokens_.push_back(token);
    flush(complete_utf8_length(tokenizer_.decode(tokens_)));
  }
  void finish() { flush(std::string::npos); }

 private:
  void flush(std::size_t length) {
    const std::string text = tokenizer_.decode(tokens_).substr(0, length);
    if (text.size() <= printed_) return;
    std::fwrite(text.data() + printed_, 1, text.size() - printed_, stdout);
    std::fflush(stdout);
    printed_ = text.size();
  }

  const data::Tokenizer& tokenizer_;
  std::vector<std::int32_t> tokens_;
  std::size_t printed_ = 0;
};

int generate(GenerateCommandOptions& options) {
  const pipeline::LoadedModel loaded = pipeline::load_model(options.model, options.load);
  if (loaded.tokenizer == nullptr)
    fail(ErrorKind::kNotFound, "cli.generate", options.model, ": it has no tokenizer, which a prompt needs");
  options.generate.stop_ids = loaded.tokenizer->eos_ids();
  const std::vector<std::int32_t> prompt = loaded.tokenizer->encode(options.prompt);
  Stream stream(*loaded.tokenizer);
  if (!options.json) std::fputs(options.prompt.c_str(), stdout);
  const eval::Generation result =
      eval::generate(*loaded.model, prompt, options.generate, [&](std::int32_t token) {
        if (!options.json) stream.add(token);
        return true;
      });
  const double decode_seconds = result.seconds - result.prompt_seconds;
  const double rate = decode_seconds > 0 ? static_cast<double>(result.tokens.size()) / decode_seconds : 0;
  if (options.json) {
    print_json({{"model", options.model},
                {"prompt", options.prompt},
                {"text", loaded.tokenizer->decode(result.tokens)},
                {"tokens", result.tokens},
                {"prompt_tokens", prompt.size()},
                {"stop", eval::to_string(result.stop)},
                {"seed", options.generate.sampler.seed},
                {"prompt_seconds", result.prompt_seconds},
                {"seconds", result.seconds},
                {"tokens_per_second", rate}});
  } else {
    stream.finish();
    print_line("");
  }
  log::info("generate: ", result.tokens.size(), " tokens, ", fixed(rate, 1), " tokens/s, stopped by ",
            eval::to_string(result.stop));
  return result.stop == eval::StopReason::kInterrupted ? exit_code(ErrorKind::kInterrupted) : 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateCommandOptions>();
  CLI::App* command = app.add_subcommand("generate", "continue a prompt");
  command->add_option("model", options->model, "model directory or .gguf")->required();
  command->add_option("-p,--prompt", options->prompt, "text to continue")->required();
  command->add_option("-n,--max-tokens", options->generate.max_tokens, "new tokens")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  add_sampler_options(*command, options->generate.sampler);
  add_torch_options(*command, options->load.device, options->load.precision);
  add_torch_threads(*command, options->load.threads);
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([options, &action] { action = [options] { return generate(*options); }; });
}

}  // namespace crumb::cli
